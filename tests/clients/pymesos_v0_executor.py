"""An executor on pymesos 0.1.7's MesosExecutorDriver, for pymesos_v0_scheduler.py (Python 2.7).

A task runs until it is killed or its scheduler says `end TASK`. Whatever else the scheduler says comes back as `reply MESSAGE`,
with the data of the task that it names as `echo DATA`; the first time also what the executor sees around it, as
`environment JSON`.
"""

import json
import logging
import os
import sys

from mesos.interface import Executor, mesos_pb2
from pymesos.executor import MesosExecutorDriver


class Echo(Executor):
    def __init__(self):
        self.data = {}
        self.environment = None

    def registered(self, driver, executor_info, framework_info, slave_info):
        seen = dict((name, value) for name, value in os.environ.items() if name.startswith(("MESOS_", "LIBPROCESS_")))
        seen.update(cwd=os.getcwd(), framework=framework_info.name, executor=executor_info.executor_id.value,
                    host=slave_info.hostname, slave_id=driver.slave_id.value)
        self.environment = "environment " + json.dumps(seen)

    def update(self, driver, task_id, state, message):
        status = mesos_pb2.TaskStatus()
        status.task_id.value, status.state, status.message = task_id, state, message
        driver.sendStatusUpdate(status)

    def launchTask(self, driver, task):
        self.data[task.task_id.value] = task.data
        self.update(driver, task.task_id.value, mesos_pb2.TASK_RUNNING, "")

    def killTask(self, driver, task_id):
        self.update(driver, task_id.value, mesos_pb2.TASK_KILLED, "killed in the executor")

    def frameworkMessage(self, driver, message):
        what, task = message.split(" ")[:2]
        if what == "end":
            self.update(driver, task, mesos_pb2.TASK_FINISHED, "done in the executor")
            return
        for said in (self.environment, "echo " + self.data[task], "reply " + message):
            if said:
                driver.sendFrameworkMessage(said)
        self.environment = None

    def shutdown(self, driver):
        logging.info("shutdown")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    MesosExecutorDriver(Echo()).run()
