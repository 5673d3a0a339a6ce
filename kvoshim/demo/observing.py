"""The observation half of the demo: a controller, a publisher process, and an observer that shows a live table."""

import os
import sys
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table

import kvoshim
from kvoshim.demo.sockets import await_path, running
from kvoshim.errors import UnknownNameError

NAME = "machine"


def table(latest, counts, latencies):
    """latest: {key: (value, revision)}; counts: {key: changes seen}; latencies: seconds from set() to callback."""
    shown = Table(title="live figures of this machine, observed in another process")
    for heading, side in (("key", "left"), ("value", "right"), ("revision", "right"), ("changes seen", "right")):
        shown.add_column(heading, justify=side)
    for key in sorted(latest):
        value, revision = latest[key]
        shown.add_row(key, f"{value:g}" if isinstance(value, float) else str(value), str(revision), str(counts[key]))
    if latencies:
        middle = sorted(latencies)[len(latencies) // 2] * 1e6
        shown.caption = f"set() to callback: median {middle:.0f} µs"
    return shown


def observe(directory, seconds, console: Console):
    """Runs everything for some seconds. Returns the number of changes seen. RuntimeError: nothing was published."""
    path = os.path.join(directory, "controller.sock")
    environment = {**os.environ, "KVOSHIM_CONTROLLER": path}
    os.environ["KVOSHIM_CONTROLLER"] = path
    latest, counts, latencies = {}, {}, []

    def changed(change):
        if change.new is not None:
            latest[change.key] = (change.new, change.revision)
            counts[change.key] = counts.get(change.key, 0) + 1
            latencies.append(max(0.0, time.time() - change.timestamp))

    controller = [sys.executable, "-P", "-m", "kvoshim", "controller", "--socket", path]
    publisher = [sys.executable, "-P", "-m", "kvoshim.demo.publisher", NAME]
    with running(controller, environment) as child:
        await_path(path, child)
        with running(publisher, environment) as source, kvoshim.Observer(autostart=False) as observer:
            end = time.monotonic() + seconds
            known = set()
            with Live(table(latest, counts, latencies), console=console, refresh_per_second=8) as live:
                while time.monotonic() < end:
                    if source.poll() is not None:
                        raise RuntimeError("the publisher ended early")
                    for key in set(keys_of(observer)) - known:
                        known.add(key)
                        observer.observe(NAME, key, changed)
                    live.update(table(dict(latest), dict(counts), list(latencies[-1000:])))
                    time.sleep(0.1)
    if not counts:
        raise RuntimeError("no change was observed")
    return sum(counts.values())


def keys_of(observer):
    try:
        return observer.keys(NAME)
    except UnknownNameError:
        return ()  # the publisher is still starting


