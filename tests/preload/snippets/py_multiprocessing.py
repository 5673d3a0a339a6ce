# accelerated: 6
"""multiprocessing.connection: Listener and Client over a Unix socket, with authentication, objects, bytes, wait, poll."""

import hashlib
import os
import random
import subprocess
import sys
import threading
from multiprocessing import connection

PATH = os.environ["SNIPPET_PATH"]


def client(number):
    source, digest = random.Random(number), hashlib.sha256()
    with connection.Client(PATH, "AF_UNIX", authkey=b"secret") as c:
        for i in range(80):
            item = {"n": i, "data": source.randbytes(source.randrange(3000)), "f": i / 7}
            c.send(item)
            assert c.recv() == (number, item)
        for size in (0, 1, 16384, 100_000, 4_000_000):
            body = source.randbytes(size)
            c.send_bytes(body)
            assert c.recv_bytes() == body
            digest.update(body)
        assert not c.poll(0.05)
        c.send_bytes(b"end")
        assert c.poll(10)
        try:
            c.recv()
        except EOFError:
            print(number, "end", digest.hexdigest())


def serve(c, number):
    for _ in range(80):
        c.send((number, c.recv()))
    while (body := c.recv_bytes()) != b"end":
        c.send_bytes(body)
    c.close()


def main():
    with connection.Listener(PATH, "AF_UNIX", authkey=b"secret") as listener:
        for number in range(4):                       # in a process of its own
            p = subprocess.Popen([sys.executable, __file__, str(number)], stdout=subprocess.PIPE)
            serve(listener.accept(), number)
            out, _ = p.communicate()
            print(out.decode(), p.returncode)
        # wait() on several connections: a thread feeds them in a known order
        ends = []
        for _ in range(2):
            t = threading.Thread(target=lambda: ends.append(connection.Client(PATH, "AF_UNIX", authkey=b"secret")))
            t.start()
            ends.append(listener.accept())
            t.join()
        for e in ends:
            for other in ends:
                assert other.poll(0) is False
            e.send("ping")
            ready = connection.wait(ends, timeout=10)
            print(len(ready), ready[0].recv())
            ready[0].send("pong")
            print(e.recv())
            for _ in range(30):
                e.send("again")
                assert ready[0].recv() == "again"
                ready[0].send("back")
                assert e.recv() == "back"
        print(connection.wait(ends, timeout=0.05))
        for e in ends:
            e.close()


if len(sys.argv) > 1:
    client(int(sys.argv[1]))
else:
    main()
