"""A scheduler on pymesos 0.1.7's MesosSchedulerDriver: the v0 driver protocol in pure Python (Python 2.7).

Arguments: the leader's HOST:PORT, a mode, a number of tasks or the id of a framework to take over.

executor N   N tasks on its own executor (pymesos_v0_executor.py): all but the last one end when they are told, that one is killed
commands N   N command tasks
hold         one command task that does not end; says so on a line, and lives on until it is told an error
take-over ID registers with that id in place of another scheduler, reconciles, and kills what it finds running

The last line of output is a summary as JSON.
"""

import json
import logging
import os
import sys
import threading

from mesos.interface import Scheduler, mesos_pb2
from pymesos import MesosSchedulerDriver

import common

CPUS, MEM = 0.1, 32
EXECUTOR_CPUS, EXECUTOR_MEM = 0.1, 64
HERE = os.path.dirname(os.path.abspath(__file__))


def name_of(state):
    return mesos_pb2.TaskState.Name(state)


def amount(offer, name):
    return sum(r.scalar.value for r in offer.resources if r.name == name and r.type == mesos_pb2.Value.SCALAR)


def add_scalars(resources, cpus, mem):
    for name, value in (("cpus", cpus), ("mem", mem)):
        resource = resources.add(name=name, type=mesos_pb2.Value.SCALAR)
        resource.scalar.value = value


def refuse(seconds):
    filters = mesos_pb2.Filters()
    filters.refuse_seconds = seconds
    return filters


class Mistakes(logging.Handler):
    """Exceptions in handlers, which the driver only logs before it tries them again."""

    def __init__(self):
        logging.Handler.__init__(self, logging.ERROR)
        self.seen = []

    def emit(self, record):
        self.seen.append(self.format(record))


class Base(Scheduler):
    """What every mode does: notes what it hears, fills offers with tasks that the mode describes."""

    executor = False

    def __init__(self, wanted):
        self.tally = common.Tally(wanted)
        self.note = self.tally.extra
        self.note.update(registered=0, reregistered=0, errors=[], sources={}, lost=[], offers=0, pids=[])
        self.lock = threading.Lock()

    def registered(self, driver, framework_id, master_info):
        self.note["registered"] += 1
        self.note["framework_id"] = framework_id.value
        self.note["master"] = {"id": master_info.id, "pid": master_info.pid, "hostname": master_info.hostname}

    def reregistered(self, driver, master_info):
        self.note["reregistered"] += 1

    def describe(self, task, number):
        raise NotImplementedError

    def resourceOffers(self, driver, offers):
        for offer in offers:
            self.note["offers"] += 1
            pids = driver.savedOffers[offer.id.value].values()
            self.note["pids"] = sorted(set(self.note["pids"]) | set(map(str, pids)))
            cpus, mem = amount(offer, "cpus"), amount(offer, "mem")
            if self.executor:
                cpus, mem = cpus - EXECUTOR_CPUS, mem - EXECUTOR_MEM
            tasks = []
            while cpus >= CPUS and mem >= MEM:
                number = self.tally.launch_next()
                if number is None:
                    break
                task = mesos_pb2.TaskInfo()
                task.slave_id.MergeFrom(offer.slave_id)
                add_scalars(task.resources, CPUS, MEM)
                self.describe(task, number)
                tasks.append(task)
                cpus, mem = cpus - CPUS, mem - MEM
            if tasks:
                driver.launchTasks(offer.id, tasks, refuse(0))
            else:
                driver.declineOffer(offer.id, refuse(5))

    def statusUpdate(self, driver, status):
        task, state = status.task_id.value, name_of(status.state)
        with self.lock:
            self.note["sources"].setdefault(task, []).append(mesos_pb2.TaskStatus.Source.Name(status.source))
            self.tally.saw(task, state)
        self.changed(driver, status, state)

    def changed(self, driver, status, state):
        pass

    def frameworkMessage(self, driver, executor_id, slave_id, data):
        self.tally.messages.append(data)

    def executorLost(self, driver, executor_id, slave_id, status):
        self.note["lost"].append(executor_id.value)

    def slaveLost(self, driver, slave_id):
        self.note["lost"].append(slave_id.value)

    def error(self, driver, message):
        self.note["errors"].append(message)
        self.tally.done.set()


class Commands(Base):
    def describe(self, task, number):
        task.task_id.value = task.name = "command-%d" % number
        task.command.value = 'test "$NUMBER" = %d && test -d "$MESOS_SANDBOX"' % number
        task.command.environment.variables.add(name="NUMBER", value=str(number))


class WithExecutor(Base):
    """Once all tasks run it says `hello` to each, once all are answered it ends all but the last one, which it kills.

    One after the other, since the driver knows the sender of the newest message only: it drops updates when messages come from
    elsewhere at the same time, and has to wait until they are sent again.
    """

    executor = True

    def __init__(self, wanted):
        Base.__init__(self, wanted)
        self.running = {}
        self.replies = 0

    def describe(self, task, number):
        task.task_id.value = task.name = "python-%d" % number
        task.executor.executor_id.value = "python"
        task.executor.name = "python executor"
        task.executor.command.value = "exec '%s' -B -u '%s'" % (
            sys.executable, os.path.join(HERE, "pymesos_v0_executor.py"))
        add_scalars(task.executor.resources, EXECUTOR_CPUS, EXECUTOR_MEM)
        # Bytes that are no text must arrive as they are.
        task.data = "payload-%d \x00\xff" % number

    def say(self, driver, what, status, more=""):
        data = what + " " + status.task_id.value.encode("ascii") + more
        driver.sendFrameworkMessage(status.executor_id, status.slave_id, data)

    def changed(self, driver, status, state):
        if state == "TASK_RUNNING":
            self.running[status.task_id.value] = status
            if len(self.running) == self.tally.wanted:
                for running in self.running.values():
                    self.say(driver, "hello", running, " \x00\xff")

    def frameworkMessage(self, driver, executor_id, slave_id, data):
        Base.frameworkMessage(self, driver, executor_id, slave_id, data)
        self.replies += data.startswith("reply ")
        if self.replies == self.tally.wanted and data.startswith("reply "):
            last = self.running.pop("python-%d" % (self.tally.wanted - 1))
            for running in self.running.values():
                self.say(driver, "end", running)
            driver.killTask(last.task_id)


class Hold(Base):
    def describe(self, task, number):
        task.task_id.value = task.name = "held"
        task.command.value = "sleep 600"

    def changed(self, driver, status, state):
        if state == "TASK_RUNNING":
            print(json.dumps({"running": "held", "framework_id": self.note["framework_id"]}))
            sys.stdout.flush()


class TakeOver(Base):
    def registered(self, driver, framework_id, master_info):
        Base.registered(self, driver, framework_id, master_info)
        driver.reconcileTasks()

    def reregistered(self, driver, master_info):
        Base.reregistered(self, driver, master_info)
        driver.reconcileTasks()

    def resourceOffers(self, driver, offers):
        for offer in offers:
            driver.declineOffer(offer.id, refuse(5))

    def changed(self, driver, status, state):
        reason = mesos_pb2.TaskStatus.Reason.Name(status.reason) if status.HasField("reason") else ""
        self.note.setdefault("reasons", []).append(reason)
        if state == "TASK_RUNNING":
            driver.killTask(status.task_id)


def main():
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    mistakes = Mistakes()
    logging.getLogger().addHandler(mistakes)
    mode, argument = sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else ""
    framework = mesos_pb2.FrameworkInfo()
    framework.user, framework.name, framework.hostname = "root", "pymesos v0 " + mode, "localhost"
    if mode == "take-over":
        framework.id.value = argument
    kinds = {"executor": WithExecutor, "commands": Commands, "hold": Hold, "take-over": TakeOver}
    scheduler = kinds[mode](int(argument) if argument.isdigit() else 1)
    driver = MesosSchedulerDriver(scheduler, framework, common.leader())
    driver.start()
    ended = scheduler.tally.done.wait(40)
    scheduler.note["ended"] = ended
    if mode == "hold":
        # What libmesos does on an error: a message that the leader must not take from a scheduler that is replaced.
        driver.abort()
    else:
        driver.stop()
    driver.join()
    note = scheduler.note
    summary = dict(note, mistakes=mistakes.seen, wanted=scheduler.tally.wanted, states=scheduler.tally.states)
    # As text that JSON can carry.
    summary["messages"] = [m.decode("latin-1") for m in scheduler.tally.messages]
    print(json.dumps(summary))
    sys.stdout.flush()
    os._exit(0 if ended else 1)


if __name__ == "__main__":
    main()
