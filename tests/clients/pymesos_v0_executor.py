"""An executor on pymesos 0.1.7's MesosExecutorDriver, for pymesos_v0_scheduler.py (Python 2.7).

A task whose data begins with `end` ends by itself, one whose data begins with `wait` when it is killed. A task's data comes
back as the message `echo DATA`, a message to the executor as `reply MESSAGE`, and once registered it says `environment JSON`.
"""

import json
import logging
import os
import sys
import threading

from mesos.interface import Executor, mesos_pb2
from pymesos.executor import MesosExecutorDriver


class Echo(Executor):
    def __init__(self):
        self.killed = {}

    def registered(self, driver, executor_info, framework_info, slave_info):
        seen = dict((name, value) for name, value in os.environ.items() if name.startswith(("MESOS_", "LIBPROCESS_")))
        seen.update(cwd=os.getcwd(), framework=framework_info.name, executor=executor_info.executor_id.value,
                    host=slave_info.hostname, slave_id=driver.slave_id.value)
        driver.sendFrameworkMessage("environment " + json.dumps(seen))

    def launchTask(self, driver, task):
        task_id, data = task.task_id.value, task.data
        self.killed[task_id] = threading.Event()

        def update(state, message=""):
            status = mesos_pb2.TaskStatus()
            status.task_id.value, status.state, status.message = task_id, state, message
            driver.sendStatusUpdate(status)

        def run():
            update(mesos_pb2.TASK_RUNNING)
            driver.sendFrameworkMessage("echo " + data)
            if data.startswith("wait"):
                self.killed[task_id].wait(90)
                update(mesos_pb2.TASK_KILLED, "killed in the executor")
            else:
                update(mesos_pb2.TASK_FINISHED, "done in the executor")

        thread = threading.Thread(target=run)
        thread.daemon = True
        thread.start()

    def killTask(self, driver, task_id):
        self.killed[task_id.value].set()

    def frameworkMessage(self, driver, message):
        driver.sendFrameworkMessage("reply " + message)

    def shutdown(self, driver):
        logging.info("shutdown")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    MesosExecutorDriver(Echo()).run()
