"""A scheduler on pymesos' MesosSchedulerDriver with an executor of its own (pymesos_executor.py)."""

import logging
import os
import sys

from pymesos import MesosSchedulerDriver, Scheduler, decode_data, encode_data

import common

CPUS, MEM = 0.1, 32
EXECUTOR = {"value": "python"}


class WithExecutor(Scheduler):
    def __init__(self, tally):
        self.tally = tally
        self.subscribed = 0

    def executor(self):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pymesos_executor.py")
        return {
            "executor_id": EXECUTOR,
            "name": "python executor",
            "command": {"value": "exec '%s' -B -u '%s'" % (sys.executable, script)},
            "resources": common.scalars(0.1, 64),
        }

    def registered(self, driver, framework_id, master_info):
        self.subscribed += 1
        self.tally.extra.update(framework_id=framework_id["value"], version=master_info.get("version"))

    def resourceOffers(self, driver, offers):
        for offer in offers:
            cpus, mem = common.take(offer, "cpus") - 0.1, common.take(offer, "mem") - 64
            tasks = []
            while cpus >= CPUS and mem >= MEM:
                number = self.tally.launch_next()
                if number is None:
                    break
                tasks.append({
                    "task_id": {"value": "python-%d" % number},
                    "agent_id": offer["agent_id"],
                    "name": "python task %d" % number,
                    "executor": self.executor(),
                    "data": encode_data(b"payload-%d" % number),
                    "resources": common.scalars(CPUS, MEM),
                })
                cpus, mem = cpus - CPUS, mem - MEM
            if tasks:
                driver.launchTasks(offer["id"], tasks, {"refuse_seconds": 0})
            else:
                driver.declineOffer(offer["id"], {"refuse_seconds": 5})

    def statusUpdate(self, driver, update):
        task, state = update["task_id"]["value"], update["state"]
        if state == "TASK_RUNNING":
            # Updates of v1 executors name the executor only where it named itself, which pymesos' driver does not.
            driver.sendFrameworkMessage(EXECUTOR, update["agent_id"], encode_data(b"hello " + task.encode()))
        self.tally.saw(task, state)

    def frameworkMessage(self, driver, executor_id, agent_id, message):
        self.tally.messages.append(decode_data(message).decode())

    def error(self, driver, message):
        self.tally.extra["error"] = message
        self.tally.done.set()


def main():
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    tally = common.Tally(common.count(5))
    framework = {"user": "root", "name": "pymesos with an executor", "hostname": "localhost"}
    driver = MesosSchedulerDriver(WithExecutor(tally), framework, common.leader())
    driver.start()
    tally.done.wait(90)
    # Stopping tears the framework down: the driver's own thread sends TEARDOWN.
    driver.stop()
    driver.join()
    tally.finish(0)


if __name__ == "__main__":
    main()
