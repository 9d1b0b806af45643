"""A scheduler on mesoshttp or on avmesos, which has the same interface: the module's name is the last argument.

These clients see an event only when the next one's length arrives, so heartbeats carry them along.
"""

import importlib
import logging
import sys
import threading

import common

CPUS, MEM = 0.1, 32


class Framework:
    def __init__(self, module, tally):
        self.tally = tally
        self.driver = None
        kind = importlib.import_module(module + ".client").MesosClient
        self.client = kind(mesos_urls=["http://" + common.leader()], frameworkName=module + " framework")
        self.client.on(kind.SUBSCRIBED, self.subscribed)
        self.client.on(kind.OFFERS, self.offers)
        self.client.on(kind.UPDATE, self.update)
        self.client.on(kind.ERROR, self.error)

    def subscribed(self, driver):
        self.driver = driver
        self.tally.extra["framework_id"] = driver.frameworkId

    def offers(self, offers):
        for offer in offers:
            content = offer.get_offer()
            cpus, mem = common.take(content, "cpus"), common.take(content, "mem")
            tasks = []
            while cpus >= CPUS and mem >= MEM:
                number = self.tally.launch_next()
                if number is None:
                    break
                # As in the client's own examples, with `slave_id`: a field that v1 does not have.
                tasks.append({
                    "name": "http task %d" % number,
                    "task_id": {"value": "http-%d" % number},
                    "agent_id": {"value": content["agent_id"]["value"]},
                    "slave_id": {"value": content["agent_id"]["value"]},
                    "command": {"shell": True, "value": "true"},
                    "resources": common.scalars(CPUS, MEM),
                })
                cpus, mem = cpus - CPUS, mem - MEM
            if tasks:
                offer.accept(tasks, {"filters": {"refuse_seconds": 1}})
            else:
                offer.decline({"filters": {"refuse_seconds": 5}})

    def update(self, update):
        status = update["status"]
        self.tally.saw(status["task_id"]["value"], status["state"])

    def error(self, message):
        self.tally.extra["error"] = str(message)
        self.tally.done.set()


def main():
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    module = sys.argv[3]
    tally = common.Tally(common.count(3))
    framework = Framework(module, tally)
    threading.Thread(target=framework.client.register, daemon=True).start()
    tally.done.wait(150)
    if framework.driver:
        framework.driver.tearDown()
    tally.finish(0)


if __name__ == "__main__":
    main()
