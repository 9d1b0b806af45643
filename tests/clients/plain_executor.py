"""A custom executor on the v1 executor API with nothing but Python's library: its tasks run until somebody kills them, or
until the command in their `data` ends.

Every task starts a process that belongs to it, so a test can see whether anything outlives the executor. SHUTDOWN ends the
executor at once. Where its framework checkpoints, it waits for a follower that went away and subscribes again, with what was
not acknowledged.
"""

import base64
import http.client
import json
import os
import subprocess
import sys
import threading
import time
import uuid

executor = {"executor_id": {"value": os.environ["MESOS_EXECUTOR_ID"]}, "framework_id": {"value": os.environ["MESOS_FRAMEWORK_ID"]}}
headers = {"Content-Type": "application/json", "Accept": "application/json"}
# What a follower that comes back may not know.
lock = threading.Lock()
unacknowledged_updates = {}
unacknowledged_tasks = {}


def call(content):
    connection = http.client.HTTPConnection(os.environ["MESOS_AGENT_ENDPOINT"])
    connection.request("POST", "/api/v1/executor", body=json.dumps({**executor, **content}), headers=headers)
    return connection.getresponse()


def update(task_id, state):
    status = {"task_id": task_id, "executor_id": executor["executor_id"], "state": state, "source": "SOURCE_EXECUTOR"}
    status |= {"uuid": base64.b64encode(uuid.uuid4().bytes).decode(), "timestamp": time.time()}
    with lock:
        unacknowledged_updates[status["uuid"]] = {"status": status}
    try:
        call({"type": "UPDATE", "update": {"status": status}})
    except OSError:
        pass  # It goes with the next SUBSCRIBE.


def run(task):
    command = base64.b64decode(task["data"]).decode() if "data" in task else "exec sleep 3600"
    process = subprocess.Popen(["sh", "-c", command], start_new_session=True)
    update(task["task_id"], "TASK_RUNNING")
    if "data" in task:
        process.wait()
        update(task["task_id"], "TASK_FINISHED")


def handle(event):
    if event["type"] in ("LAUNCH", "LAUNCH_GROUP"):
        launch = event.get("launch") or event["launch_group"]
        for task in [launch["task"]] if "task" in launch else launch["task_group"]["tasks"]:
            with lock:
                unacknowledged_tasks[task["task_id"]["value"]] = task
            threading.Thread(target=run, args=[task], daemon=True).start()
    elif event["type"] == "ACKNOWLEDGED":
        with lock:
            unacknowledged_updates.pop(event["acknowledged"]["uuid"], None)
            unacknowledged_tasks.pop(event["acknowledged"]["task_id"]["value"], None)
    elif event["type"] == "KILL":
        update(event["kill"]["task_id"], "TASK_KILLED")
    elif event["type"] == "SHUTDOWN":
        os._exit(0)


def subscribe():
    with lock:
        known = {"unacknowledged_tasks": list(unacknowledged_tasks.values())}
        known["unacknowledged_updates"] = list(unacknowledged_updates.values())
    stream = call({"type": "SUBSCRIBE", "subscribe": known})
    if stream.status == 503:
        raise OSError("the follower is not ready")
    if stream.status != 200:
        sys.exit(f"{stream.status} {stream.read().decode()}")
    while True:
        length = b""
        while not length.endswith(b"\n"):
            byte = stream.read(1)
            if not byte:
                raise OSError("the follower closed the connection")
            length += byte
        handle(json.loads(stream.read(int(length))))


while True:
    try:
        subscribe()
    except (OSError, http.client.HTTPException, ValueError) as problem:
        if os.environ.get("MESOS_CHECKPOINT") != "1":
            sys.exit(str(problem))
        time.sleep(0.1)
