"""A master of another make in the election: enters it as the reference's masters do, through kazoo, and reads it as tools do.

Arguments: servers, path, its own ip, its own port. Prints a JSON line whenever the members change; a line on its standard
input ends it, at once ("leave") or without a word to ZooKeeper ("die").
"""

import json
import os
import socket
import struct
import sys

from kazoo.client import KazooClient


def main():
    servers, path, ip, port = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    client = KazooClient(hosts=servers, timeout=2)
    client.start(timeout=30)
    own = {
        "address": {"hostname": "foreign.test", "ip": ip, "port": port},
        "capabilities": [{"type": "AGENT_UPDATE"}, {"type": "AGENT_DRAINING"}, {"type": "QUOTA_V2"}],
        "hostname": "foreign.test", "id": "f0e1d2c3-0000-4000-8000-000000000001",
        "ip": struct.unpack("<I", socket.inet_aton(ip))[0],
        "pid": "master@%s:%d" % (ip, port), "port": port, "version": "1.11.0",
    }
    member = client.create(
        path + "/json.info_", json.dumps(own).encode(), ephemeral=True, sequence=True, makepath=True)

    def say(children):
        members = sorted(child for child in children if child.startswith("json.info_"))
        leader = None
        if members:
            try:
                data, _ = client.get(path + "/" + members[0])
                leader = json.loads(data)
            except Exception as error:  # it went in between: the next call tells
                leader = {"error": str(error)}
        print(json.dumps({"members": members, "own": os.path.basename(member), "leader": leader, "children": children}))
        sys.stdout.flush()

    client.ChildrenWatch(path, say)
    for line in sys.stdin:
        if line.strip() == "leave":
            client.stop()
            client.close()
            break
        if line.strip() == "die":
            os._exit(0)
    print(json.dumps({"left": True}))


if __name__ == "__main__":
    main()
