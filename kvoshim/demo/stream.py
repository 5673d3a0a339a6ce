"""An ordinary stream server and client. They use the standard library alone and know nothing of kvoshim; the demo runs
them on kernel sockets and through the shim.

    python stream.py server PATH
    python stream.py client PATH SECONDS     prints {"median_us": ..., "p99_us": ..., "count": ...}
"""

import json
import socket
import socketserver
import statistics
import sys
import time

MESSAGE = 64  # bytes, each way


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        while message := self.request.recv(MESSAGE, socket.MSG_WAITALL):
            self.request.sendall(message)


def serve(path):
    with socketserver.ThreadingUnixStreamServer(path, Echo) as server:
        server.daemon_threads = True
        server.serve_forever()


def measure(path, seconds):
    message, times = b"x" * MESSAGE, []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(None)
        connection.connect(path)
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            connection.sendall(message)
            if len(connection.recv(MESSAGE, socket.MSG_WAITALL)) != MESSAGE:
                raise ConnectionError("the server closed the connection")
            times.append(time.perf_counter() - start)
    times.sort()
    return {"median_us": statistics.median(times) * 1e6, "p99_us": times[len(times) * 99 // 100] * 1e6,
            "count": len(times)}


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve(sys.argv[2])
    else:
        print(json.dumps(measure(sys.argv[2], float(sys.argv[3]))))
