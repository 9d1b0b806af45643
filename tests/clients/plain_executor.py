"""A custom executor on the v1 executor API with nothing but Python's library: its tasks run until somebody kills them.

Every task starts a `sleep` that belongs to it, so a test can see whether anything outlives the executor. SHUTDOWN ends the
executor at once.
"""

import base64
import http.client
import json
import os
import subprocess
import sys
import time
import uuid

executor = {"executor_id": {"value": os.environ["MESOS_EXECUTOR_ID"]}, "framework_id": {"value": os.environ["MESOS_FRAMEWORK_ID"]}}
headers = {"Content-Type": "application/json", "Accept": "application/json"}


def call(content):
    connection = http.client.HTTPConnection(os.environ["MESOS_AGENT_ENDPOINT"])
    connection.request("POST", "/api/v1/executor", body=json.dumps({**executor, **content}), headers=headers)
    return connection.getresponse()


def update(task_id, state):
    status = {"task_id": task_id, "executor_id": executor["executor_id"], "state": state, "source": "SOURCE_EXECUTOR"}
    status |= {"uuid": base64.b64encode(uuid.uuid4().bytes).decode(), "timestamp": time.time()}
    call({"type": "UPDATE", "update": {"status": status}})


def handle(event):
    if event["type"] in ("LAUNCH", "LAUNCH_GROUP"):
        launch = event.get("launch") or event["launch_group"]
        for task in [launch["task"]] if "task" in launch else launch["task_group"]["tasks"]:
            subprocess.Popen(["sleep", "3600"], start_new_session=True)
            update(task["task_id"], "TASK_RUNNING")
    elif event["type"] == "KILL":
        update(event["kill"]["task_id"], "TASK_KILLED")
    elif event["type"] == "SHUTDOWN":
        sys.exit(0)


stream = call({"type": "SUBSCRIBE", "subscribe": {"unacknowledged_tasks": [], "unacknowledged_updates": []}})
if stream.status != 200:
    sys.exit(f"{stream.status} {stream.read().decode()}")
while True:
    length = b""
    while not length.endswith(b"\n"):
        byte = stream.read(1)
        if not byte:
            sys.exit("the follower closed the connection")
        length += byte
    handle(json.loads(stream.read(int(length))))
