"""A scheduler on pymesos that runs command tasks, acknowledging explicitly, and checks the operator API on the way."""

import logging
import sys

from pymesos import MesosOperatorMasterDriver, MesosSchedulerDriver, Scheduler

import common

CPUS, MEM = 0.1, 32


class Commands(Scheduler):
    def __init__(self, tally):
        self.tally = tally

    def registered(self, driver, framework_id, master_info):
        self.tally.extra["framework_id"] = framework_id["value"]

    def resourceOffers(self, driver, offers):
        for offer in offers:
            cpus, mem = common.take(offer, "cpus"), common.take(offer, "mem")
            tasks = []
            while cpus >= CPUS and mem >= MEM:
                number = self.tally.launch_next()
                if number is None:
                    break
                tasks.append({
                    "task_id": {"value": "command-%d" % number},
                    "agent_id": offer["agent_id"],
                    "name": "command task %d" % number,
                    "command": {"value": "test \"$NUMBER\" = %d && test -d \"$MESOS_SANDBOX\"" % number,
                                "environment": {"variables": [{"name": "NUMBER", "value": str(number)}]}},
                    "resources": common.scalars(CPUS, MEM),
                })
                cpus, mem = cpus - CPUS, mem - MEM
            if tasks:
                driver.launchTasks(offer["id"], tasks, {"refuse_seconds": 0})
            else:
                driver.declineOffer(offer["id"], {"refuse_seconds": 5})

    def statusUpdate(self, driver, update):
        driver.acknowledgeStatusUpdate(update)
        self.tally.saw(update["task_id"]["value"], update["state"])

    def error(self, driver, message):
        self.tally.extra["error"] = message
        self.tally.done.set()


def main():
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    tally = common.Tally(common.count(10))
    framework = {"user": "root", "name": "pymesos commands", "hostname": "localhost"}
    driver = MesosSchedulerDriver(Commands(tally), framework, common.leader(), implicit_acknowledgements=False)
    driver.start()
    tally.done.wait(90)
    operator = MesosOperatorMasterDriver(common.leader())
    tally.extra["healthy"] = operator.getHealth()["get_health"]["healthy"]
    agents = operator.getAgents()["get_agents"]["agents"]
    tally.extra["agents"] = len(agents)
    driver.stop()
    driver.join()
    tally.finish(0)


if __name__ == "__main__":
    main()
