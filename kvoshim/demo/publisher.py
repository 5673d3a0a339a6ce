"""Publishes this machine's live figures until it is told to stop: python -m kvoshim.demo.publisher NAME"""

import signal
import sys
import threading
import time

import psutil

import kvoshim

TICK_S = 0.1


def figures():
    """{key: value}: CPU, memory, network, load."""
    net = psutil.net_io_counters()
    memory = psutil.virtual_memory()
    values = {
        "cpu.percent": psutil.cpu_percent(),
        "memory.percent": memory.percent,
        "memory.available_mb": memory.available // 1_000_000,
        "network.sent_kb": net.bytes_sent // 1000 if net else 0,
        "network.received_kb": net.bytes_recv // 1000 if net else 0,
        "load.1min": psutil.getloadavg()[0],
        "processes": len(psutil.pids()),
        "uptime_s": round(time.time() - psutil.boot_time(), 1),
    }
    values.update({f"cpu{i}.percent": p for i, p in enumerate(psutil.cpu_percent(percpu=True)[:8])})
    return values


def publish(name):
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    with kvoshim.Observable(name) as observable:
        last = {}
        while not stop.wait(TICK_S):
            for key, value in figures().items():
                if last.get(key) != value:
                    observable[key] = last[key] = value


if __name__ == "__main__":
    publish(sys.argv[1])
