"""A framework's subscription in a process of its own, so that a test can kill -9 it: the kernel then closes the connection.

The leader's HOST:PORT is the first argument, the SUBSCRIBE call is on standard input. Prints one line of JSON with the stream
id, then one line per event.
"""

import http.client
import sys

call = sys.stdin.buffer.read()
headers = {"Content-Type": "application/json", "Accept": "application/json"}
connection = http.client.HTTPConnection(sys.argv[1])
connection.request("POST", "/api/v1/scheduler", body=call, headers=headers)
response = connection.getresponse()
if response.status != 200:
    sys.exit(f"{response.status} {response.read().decode()}")
print('{"stream_id": "%s"}' % response.headers["Mesos-Stream-Id"], flush=True)
while True:
    length = b""
    while not length.endswith(b"\n"):
        byte = response.read(1)
        if not byte:
            sys.exit(0)
        length += byte
    # Our leader writes JSON on one line; a line break inside would still be white space only.
    print(response.read(int(length)).decode().replace("\n", " "), flush=True)
