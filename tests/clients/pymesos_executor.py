"""An executor on pymesos' MesosExecutorDriver: each task runs in a thread and ends TASK_FINISHED.

The scheduler (pymesos_scheduler.py) ships this file's path as the executor's command. A task's data is echoed back as a
framework message, so that messages in both directions are exercised.
"""

import sys
from threading import Thread

from pymesos import Executor, MesosExecutorDriver, decode_data, encode_data


class Echo(Executor):
    def launchTask(self, driver, task):
        def run():
            update = {"task_id": task["task_id"], "state": "TASK_RUNNING"}
            driver.sendStatusUpdate(update)
            driver.sendFrameworkMessage(encode_data(b"echo " + decode_data(task["data"])))
            update = {"task_id": task["task_id"], "state": "TASK_FINISHED", "message": "done in the executor"}
            driver.sendStatusUpdate(update)

        Thread(target=run).start()

    def frameworkMessage(self, driver, message):
        driver.sendFrameworkMessage(encode_data(b"reply " + decode_data(message)))


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    driver = MesosExecutorDriver(Echo())
    driver.run()
