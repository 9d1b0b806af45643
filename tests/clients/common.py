"""What the Python client programs share: arguments, the tally of task states, and how they end."""

import json
import os
import sys
import threading

TERMINAL = {
    "TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST", "TASK_DROPPED", "TASK_GONE",
    "TASK_UNREACHABLE",
}


def leader():
    """The leader's host:port, the first argument of every program."""
    return sys.argv[1]


def count(default):
    """How many tasks to run, the second argument."""
    return int(sys.argv[2]) if len(sys.argv) > 2 else default


class Tally:
    """States seen per task, in order, and whether all have ended."""

    def __init__(self, wanted):
        self.wanted = wanted
        self.launched = 0
        self.states = {}
        self.messages = []
        self.done = threading.Event()
        self.extra = {}

    def launch_next(self):
        """The number of the next task to launch, or none when all are."""
        if self.launched == self.wanted:
            return None
        self.launched += 1
        return self.launched - 1

    def saw(self, task, state):
        seen = self.states.setdefault(task, [])
        if not seen or seen[-1] != state:
            seen.append(state)
        ended = [states for states in self.states.values() if states[-1] in TERMINAL]
        if len(ended) == self.wanted:
            self.done.set()

    def finish(self, patience):
        """Waits for the end, prints the summary and leaves: without joining threads, some clients have endless ones."""
        ended = self.done.wait(patience)
        finished = [task for task, states in self.states.items() if states[-1] == "TASK_FINISHED"]
        summary = dict(wanted=self.wanted, finished=len(finished), states=self.states, messages=self.messages, **self.extra)
        print(json.dumps(summary))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0 if ended and len(finished) == self.wanted else 1)


def take(offer, name):
    """How much of a scalar resource an offer has."""
    return sum(r["scalar"]["value"] for r in offer["resources"] if r["name"] == name and r["type"] == "SCALAR")


def scalars(cpus, mem):
    return [
        {"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus}},
        {"name": "mem", "type": "SCALAR", "scalar": {"value": mem}},
    ]
