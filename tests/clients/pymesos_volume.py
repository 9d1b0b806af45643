"""A scheduler on pymesos that keeps data in a persistent volume: it reserves, creates the volume, writes a file in it from one task, reads it from
the next one, and gives everything back.

Arguments: the leader's HOST:PORT, and how: `each` makes every operation an ACCEPT of its own, with an id, and goes on once its status says that
it is finished; `together` makes them all in as few ACCEPTs as they fit in, without ids.

It prints a line at every stage ("written", "read", "destroyed", "unreserved") and waits for a line of input before it goes on after each.
"""

import json
import logging
import os
import sys
import threading

from pymesos import MesosSchedulerDriver, Scheduler

import common

ROLE, VOLUME, CPUS, MEM, DISK = "prod/db", "the-volume", 0.5, 64, 128
WRITE = "test ! -e data/file && echo 'kept words' > data/file"
READ = "test \"$(cat data/file)\" = 'kept words' && echo 'and more' >> data/file"
AT_ONCE = {"refuse_seconds": 0}


def reserved(name, value, **more):
    return dict(name=name, type="SCALAR", scalar={"value": value}, reservations=[{"type": "DYNAMIC", "role": ROLE}], **more)


RESERVATION = [reserved("cpus", CPUS), reserved("mem", MEM), reserved("disk", DISK)]
MADE = reserved("disk", DISK, disk={
    "persistence": {"id": VOLUME}, "volume": {"container_path": "data", "mode": "RW"}})


def is_reserved(resource):
    return [r["role"] for r in resource.get("reservations", [])] == [ROLE]


def is_volume(resource):
    return resource.get("disk", {}).get("persistence", {}).get("id") == VOLUME


def amount(offer, name, wanted):
    return sum(r["scalar"]["value"] for r in offer["resources"] if r["name"] == name and wanted(r))


class Keeper(Scheduler):
    def __init__(self, how):
        self.each = how == "each"
        self.lock = threading.RLock()
        self.stage = "reserve"
        # What the stage waits for: an operation's id, or a task's.
        self.pending = None
        self.statuses, self.states, self.registrations = [], {}, 0
        self.framework_id = None
        self.problem = None
        self.over = threading.Event()

    def said(self, what, **more):
        print(json.dumps(dict(stage=what, **more)))
        sys.stdout.flush()

    def fail(self, problem):
        self.problem = problem
        self.over.set()

    def registered(self, driver, framework_id, master_info):
        self.framework_id = framework_id["value"]
        self.registrations += 1

    def reregistered(self, driver, master_info):
        self.registrations += 1

    # What each stage is, and the one after it.

    def operation(self, kind, resources):
        body = {kind.lower(): {("volumes" if kind in ("CREATE", "DESTROY") else "resources"): resources}, "type": kind}
        if self.each:
            self.pending = kind
            body["id"] = {"value": kind}
        return body

    def task(self, offer, name, command):
        self.pending = name
        return {"type": "LAUNCH", "launch": {"task_infos": [{
            "task_id": {"value": name}, "name": name, "agent_id": offer["agent_id"], "command": {"value": command},
            "resources": [reserved("cpus", CPUS), reserved("mem", MEM), MADE],
        }]}}

    def operations(self, offer):
        """What is to be done with an offer at this stage; nothing if it is not the right one."""
        free = lambda name: amount(offer, name, lambda r: not r.get("reservations"))
        ours = lambda name: amount(offer, name, lambda r: is_reserved(r) and not is_volume(r))
        volume = [r for r in offer["resources"] if is_volume(r)]
        if self.stage == "reserve" and free("cpus") >= CPUS and free("mem") >= MEM and free("disk") >= DISK:
            if self.each:
                return [self.operation("RESERVE", RESERVATION)]
            return [self.operation("RESERVE", RESERVATION), self.operation("CREATE", [MADE]), self.task(offer, "write", WRITE)]
        if self.stage == "create" and ours("disk") == DISK:
            return [self.operation("CREATE", [MADE])]
        if self.stage in ("write", "read") and volume and ours("cpus") == CPUS and ours("mem") == MEM:
            return [self.task(offer, self.stage, WRITE if self.stage == "write" else READ)]
        if self.stage == "destroy" and volume and ours("cpus") == CPUS and ours("mem") == MEM:
            if self.each:
                return [self.operation("DESTROY", [MADE])]
            return [self.operation("DESTROY", [MADE]), self.operation("UNRESERVE", RESERVATION)]
        if self.stage == "unreserve" and ours("disk") == DISK and ours("cpus") == CPUS and ours("mem") == MEM:
            return [self.operation("UNRESERVE", RESERVATION)]
        if self.stage == "look" and not volume and not any(is_reserved(r) for r in offer["resources"]):
            # Without ids, that it is gone is seen in what is offered.
            self.stage = "nothing"
            self.said("unreserved")
        return []

    def resourceOffers(self, driver, offers):
        with self.lock:
            for offer in offers:
                operations = [] if self.pending else self.operations(offer)
                if not operations:
                    driver.declineOffer(offer["id"], {"refuse_seconds": 0.2})
                    continue
                driver.acceptOffers(offer["id"], operations, AT_ONCE)
                if self.stage == "destroy" and not self.each:
                    self.stage = "look"

    def operationStatusUpdate(self, driver, update):
        with self.lock:
            # The driver's own acknowledgement has the UUID in the form in which it came, which is not the one that a call has.
            driver.acknowledgeOperationStatusUpdate(dict(update, uuid=update["uuid"]["value"]))
            kind, state = update["operation_id"]["value"], update["state"]
            self.statuses.append([kind, state])
            if state != "OPERATION_FINISHED":
                return self.fail(update)
            if kind == self.pending:
                self.pending = None
                self.stage = {"RESERVE": "create", "CREATE": "write"}.get(kind, "nothing")
                if kind == "DESTROY":
                    self.said("destroyed")
                if kind == "UNRESERVE":
                    self.said("unreserved")

    def statusUpdate(self, driver, update):
        with self.lock:
            driver.acknowledgeStatusUpdate(update)
            task, state = update["task_id"]["value"], update["state"]
            self.states.setdefault(task, []).append(state)
            if state == "TASK_FINISHED" and task == self.pending:
                self.pending, self.stage = None, "nothing"
                self.said("written" if task == "write" else "read", framework_id=self.framework_id)
            elif state in common.TERMINAL:
                self.fail(update)

    def error(self, driver, message):
        self.fail(message)

    def go_on(self):
        """Reads what to do next, a stage on each line, until there is none."""
        for line in sys.stdin:
            with self.lock:
                if line.strip() == "end":
                    break
                self.stage = line.strip()
        self.over.set()


def main():
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    keeper = Keeper(sys.argv[2])
    framework = {
        "user": "root", "name": "pymesos volume", "hostname": "localhost", "roles": [ROLE], "checkpoint": True,
        "capabilities": [{"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}],
    }
    driver = MesosSchedulerDriver(keeper, framework, common.leader(), implicit_acknowledgements=False)
    driver.start()
    threading.Thread(target=keeper.go_on, daemon=True).start()
    ended = keeper.over.wait(150)
    driver.stop()
    driver.join()
    print(json.dumps(dict(
        framework_id=keeper.framework_id, statuses=keeper.statuses, states=keeper.states, registrations=keeper.registrations,
        problem=keeper.problem)))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if ended and keeper.problem is None else 1)


if __name__ == "__main__":
    main()
