"""A scheduler on pymesos that finds its leader through ZooKeeper (kazoo) and keeps short tasks coming while leaders change.

Arguments: zk://..., how many tasks, how many seconds each takes. Prints a line whenever it registers, and a summary at the end.
"""

import json
import logging
import os
import sys
import threading
import time

from pymesos import MesosSchedulerDriver, Scheduler

import common

CPUS, MEM = 0.1, 16
AT_ONCE = 10


class Steady(Scheduler):
    def __init__(self, wanted, seconds):
        self.wanted, self.seconds = wanted, seconds
        self.lock = threading.Lock()
        self.launched = 0
        self.alive = {}
        self.ends = {}
        self.registrations = 0
        self.done = threading.Event()

    def said(self, **what):
        print(json.dumps(what))
        sys.stdout.flush()

    def registered(self, driver, framework_id, master_info):
        self.registrations += 1
        self.said(registered=framework_id["value"], leader=master_info.get("port"), at=time.time())
        self.reconcile(driver)

    def reregistered(self, driver, master_info):
        self.registrations += 1
        self.said(reregistered=self.registrations, leader=master_info.get("port"), at=time.time())
        self.reconcile(driver)

    def reconcile(self, driver):
        with self.lock:
            tasks = [{"task_id": {"value": task}, "agent_id": {"value": agent}} for task, agent in self.alive.items()]
        if tasks:
            self.attempt(driver.reconcileTasks, tasks)

    def attempt(self, call, *arguments):
        """Between two leaders calls fail; in pymesos an exception out of a callback ends the driver."""
        try:
            call(*arguments)
        except Exception as error:
            logging.warning("%s: %s", call.__name__, error)

    def resourceOffers(self, driver, offers):
        for offer in offers:
            cpus, mem = common.take(offer, "cpus"), common.take(offer, "mem")
            tasks = []
            with self.lock:
                while cpus >= CPUS and mem >= MEM and len(self.alive) < AT_ONCE and self.launched < self.wanted:
                    task = "steady-%d" % self.launched
                    self.launched += 1
                    self.alive[task] = offer["agent_id"]["value"]
                    tasks.append({
                        "task_id": {"value": task}, "agent_id": offer["agent_id"], "name": task,
                        "command": {"value": "sleep %s" % self.seconds}, "resources": common.scalars(CPUS, MEM),
                    })
                    cpus, mem = cpus - CPUS, mem - MEM
            if tasks:
                self.attempt(driver.launchTasks, offer["id"], tasks, {"refuse_seconds": 0})
            else:
                self.attempt(driver.declineOffer, offer["id"], {"refuse_seconds": 1})

    def statusUpdate(self, driver, update):
        # Not acknowledged, it comes again.
        self.attempt(driver.acknowledgeStatusUpdate, update)
        task, state = update["task_id"]["value"], update["state"]
        if state in common.TERMINAL | {"TASK_GONE_BY_OPERATOR", "TASK_UNKNOWN"} and state != "TASK_UNREACHABLE":
            with self.lock:
                if task in self.ends and update.get("reason") == "REASON_RECONCILIATION":
                    # Asked before its end was heard, answered after that was acknowledged: nobody knows it any more.
                    return
                self.alive.pop(task, None)
                self.ends.setdefault(task, [])
                if state not in self.ends[task]:
                    self.ends[task].append(state)
                if len(self.ends) == self.wanted:
                    self.done.set()

    def error(self, driver, message):
        self.said(error=message)


def main():
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    scheduler = Steady(int(sys.argv[2]), sys.argv[3])
    framework = {
        "user": "root", "name": "pymesos steady", "hostname": "localhost", "checkpoint": True, "failover_timeout": 3600,
        "capabilities": [{"type": "PARTITION_AWARE"}],
    }
    driver = MesosSchedulerDriver(scheduler, framework, common.leader(), implicit_acknowledgements=False)
    driver.start()
    # What got lost with a leader is asked for until somebody knows.
    while not scheduler.done.wait(5):
        scheduler.reconcile(driver)
    states = {}
    for ends in scheduler.ends.values():
        for end in ends:
            states[end] = states.get(end, 0) + 1
    twice = [task for task, ends in scheduler.ends.items() if len(ends) != 1]
    scheduler.said(wanted=scheduler.wanted, ended=len(scheduler.ends), twice=twice, states=states,
                   registrations=scheduler.registrations)
    os._exit(0)


if __name__ == "__main__":
    main()
