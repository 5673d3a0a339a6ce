"""The transport half of the demo: the same programs on kernel sockets and through the shim."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

from kvoshim import launcher

STREAM = os.path.join(os.path.dirname(__file__), "stream.py")
WAIT_S = 10  # for a server to listen, for a program to end


@contextlib.contextmanager
def running(command, environment):
    """A child process for the length of a block; ended by its PID, killed if it lingers."""
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def await_path(path, child):
    """Waits until a socket path exists. RuntimeError: the server ended or took too long."""
    end = time.monotonic() + WAIT_S
    while not os.path.exists(path):
        if child.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the server on {path} did not start")
        time.sleep(0.01)


class Shim:
    """The environment of shimmed programs, and the count of connections that their log shows as accelerated."""

    def __init__(self, path, directory):
        self.log = os.path.join(directory, "shim.log")
        self.environment = {**os.environ, **launcher.variables(path), "KVOSHIM_LOG": "debug",
                            "KVOSHIM_LOG_FILE": self.log}

    def accelerated(self):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as lines:
                return sum(" accelerated " in line for line in lines)
        except FileNotFoundError:
            return 0


def plain_environment():
    return {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "KVOSHIM_PATHS", "USE_TSSX")}


def round_trip(directory, seconds):
    """The standard library's stream server and client: {"kernel": {...}, "shim": {...}, "accelerated": int}."""
    path = os.path.join(directory, "stream.sock")
    shim = Shim(path, directory)
    results = {}
    for name, environment in (("kernel", plain_environment()), ("shim", shim.environment)):
        with running([sys.executable, STREAM, "server", path], environment) as server:
            await_path(path, server)
            client = subprocess.run([sys.executable, STREAM, "client", path, str(seconds)], env=environment,
                                    capture_output=True, text=True, timeout=seconds + WAIT_S, check=True)
        os.unlink(path)
        results[name] = json.loads(client.stdout)
    results["accelerated"] = shim.accelerated()
    return results


def redis_rates(directory, seconds):
    """redis-benchmark GET with one client, requests a second: {"kernel": float, "shim": float, "accelerated": int}; None
    where Redis is not installed."""
    server, benchmark = shutil.which("redis-server"), shutil.which("redis-benchmark")
    if not (server and benchmark):
        return None
    path = os.path.join(directory, "redis.sock")
    shim = Shim(path, directory)
    before = shim.accelerated()
    results, count = {}, max(2000, int(seconds * 8000))
    for name, environment in (("kernel", plain_environment()), ("shim", shim.environment)):
        command = [server, "--port", "0", "--unixsocket", path, "--save", "", "--dir", directory]
        with running(command, environment) as child:
            await_path(path, child)
            requests = count if name == "kernel" else count * 5
            run = subprocess.run([benchmark, "-s", path, "-t", "get", "-c", "1", "-n", str(requests), "-q"],
                                 env=environment, capture_output=True, text=True, timeout=60, check=True)
        found = re.findall(r"GET: ([0-9.]+) requests per second", run.stdout)
        if not found:
            raise RuntimeError(f"redis-benchmark printed no rate: {run.stdout[-200:]!r}")
        results[name] = float(found[-1])
    results["accelerated"] = shim.accelerated() - before
    return results
