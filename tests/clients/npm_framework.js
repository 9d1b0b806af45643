// A scheduler on the npm package mesos-framework: command tasks, run by the package's own offer handling.
"use strict";

const { Scheduler, Mesos } = require("mesos-framework");

const mesos = Mesos.getMesos();
const [host, port] = process.argv[2].split(":");
const wanted = Number(process.argv[3] || 3);
const states = {};
const errors = [];
// The package's logger writes below its working directory.
require("fs").mkdirSync("logs", { recursive: true });

const scheduler = new Scheduler({
    masterUrl: host,
    port: Number(port),
    frameworkName: "npm framework",
    logging: { level: "error" },
    // A task that fails must show as failed, not be started again.
    restartStates: [],
    tasks: {
        quick: {
            priority: 1,
            instances: wanted,
            commandInfo: new mesos.CommandInfo(null, new mesos.Environment([]), true, "test \"$HOST\" = 127.0.0.1", null, null),
            resources: { cpus: 0.1, mem: 32, ports: 1, disk: 0 }
        }
    }
});

function finish() {
    const finished = Object.values(states).filter((seen) => seen[seen.length - 1] === "TASK_FINISHED").length;
    console.log(JSON.stringify({ wanted, finished, states, errors, framework_id: scheduler.frameworkId }));
    process.exit(finished === wanted ? 0 : 1);
}

// Updates that want an acknowledgement, and acknowledgements the package has sent.
let wanting = 0;
let acknowledged = 0;
let ended = false;
let tornDown = false;

function finishWhenAcknowledged() {
    if (ended && acknowledged >= wanting) {
        ended = false;
        scheduler.once("sent_teardown", finish);
        tornDown = true;
        scheduler.teardown();
    }
}

scheduler.on("update", (update) => {
    const task = update.status.task_id.value;
    const seen = states[task] = states[task] || [];
    if (seen[seen.length - 1] !== update.status.state) {
        seen.push(update.status.state);
    }
    wanting += update.status.uuid ? 1 : 0;
    const terminal = /TASK_(FINISHED|FAILED|KILLED|ERROR|LOST|DROPPED|GONE)/;
    ended = Object.values(states).filter((list) => terminal.test(list[list.length - 1])).length === wanted;
    finishWhenAcknowledged();
});
scheduler.on("sent_acknowledge", () => {
    acknowledged += 1;
    finishWhenAcknowledged();
});
scheduler.on("error", (error) => {
    const text = error.message || String(error);
    // TEARDOWN ends the event stream, which may be seen before its answer. Before that it is an error.
    if (!(tornDown && text === "Long-running connection was closed!")) {
        errors.push(text);
    }
});
scheduler.on("ready", () => scheduler.subscribe());
setTimeout(finish, 90000);
