# accelerated: 25
"""socketserver: a threading, then a forking, then a plain server on a Unix socket; many clients, several MB, half close."""

import hashlib
import os
import random
import socket
import socketserver
import subprocess
import sys
import threading

PATH = os.environ["SNIPPET_PATH"]


class Echo(socketserver.StreamRequestHandler):
    """Lines come back reversed; after `raw N`, N bytes come back as they are; at the end the digest of all of it."""

    def handle(self):
        digest = hashlib.sha256()
        for line in self.rfile:
            digest.update(line)
            if line.startswith(b"raw "):
                left = int(line[4:])
                while left:
                    chunk = self.rfile.read(min(left, 50000))
                    digest.update(chunk)
                    self.wfile.write(chunk)
                    left -= len(chunk)
            else:
                self.wfile.write(line[:-1][::-1] + b"\n")
        self.wfile.write(digest.hexdigest().encode())


class Threading(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class Forking(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    pass


def talk(number, out):
    source, digest = random.Random(number), hashlib.sha256()
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(PATH)
        f = s.makefile("rwb")
        for i in range(60):
            line = b"%d %s\n" % (i, source.randbytes(source.randrange(500)).hex().encode())
            f.write(line)
            f.flush()
            digest.update(line)
            assert f.readline() == line[:-1][::-1] + b"\n"
        for size in (1, 70_000, 3_000_000):
            body = source.randbytes(size)
            head = b"raw %d\n" % size
            digest.update(head + body)
            writer = threading.Thread(target=s.sendall, args=(head + body,))
            writer.start()
            assert f.read(size) == body
            writer.join()
        s.shutdown(socket.SHUT_WR)
        rest = f.read()
        assert rest.decode() == digest.hexdigest()
        out[number] = rest


def clients(count):
    out = {}
    threads = [threading.Thread(target=talk, args=(n, out)) for n in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print(sorted(out.items()))


def main():
    for kind, count in ((Threading, 12), (Forking, 12), (socketserver.UnixStreamServer, 1)):
        with kind(PATH, Echo) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            done = subprocess.run([sys.executable, __file__, str(count)], capture_output=True, check=False)
            print(kind.__name__, done.returncode, done.stdout.decode(), done.stderr.decode())
            server.shutdown()
            thread.join()
        os.unlink(PATH)


if len(sys.argv) > 1:
    clients(int(sys.argv[1]))
else:
    main()
