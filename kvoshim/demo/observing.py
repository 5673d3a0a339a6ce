"""The observation half of the demo: a publisher process, and an observer that shows a live table. They find each other by a registry
that is the demo's alone, with nothing configured."""

import contextlib
import os
import signal
import sys
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table

import kvoshim
from kvoshim import registry
from kvoshim.demo.sockets import WAIT_S, running
from kvoshim.errors import UnknownNameError
from kvoshim.kvo.finding import CONTROLLER, OBSERVABLE
from kvoshim.registry.client import pool
from kvoshim.registry.seat.private import PrivateRegistry

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


@contextlib.contextmanager
def group():
    """A registry for this process and its children, and nobody chooses where the controller is."""
    names = ("KVOSHIM_REGISTRY", "KVOSHIM_CONTROLLER")
    before = {name: os.environ.pop(name, None) for name in names}
    try:
        with PrivateRegistry() as private:
            os.environ.update(private.environment)
            try:
                yield private
            finally:
                pool.close()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def observe(seconds, console: Console):
    """Runs everything for some seconds. Returns the number of changes seen, and how many seconds after the publisher was killed the
    registry told of it. RuntimeError: nothing was published."""
    latest, counts, latencies = {}, {}, []

    def changed(change):
        if change.new is not None:
            latest[change.key] = (change.new, change.revision)
            counts[change.key] = counts.get(change.key, 0) + 1
            latencies.append(max(0.0, time.time() - change.timestamp))

    publisher = [sys.executable, "-P", "-m", "kvoshim.demo.publisher", NAME]
    with group() as private, running(publisher, dict(os.environ)) as source:
        with registry.watch("kvo*", reach=private.scope) as search:
            console.print(found(search, private, source))
            with kvoshim.Observer(autostart=False) as observer:  # whose controller the registry knows
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
                missed = until_missed(search, source)
    if not counts:
        raise RuntimeError("no change was observed")
    return sum(counts.values()), missed


def found(search, private, source):
    """A table of what the registry knows, as soon as it knows the controller and the publisher."""
    entries, end = {}, time.monotonic() + WAIT_S
    while not {CONTROLLER, OBSERVABLE + NAME} <= entries.keys():
        if source.poll() is not None or time.monotonic() > end:
            raise RuntimeError("the publisher is not in the registry")
        with contextlib.suppress(TimeoutError):
            event = search.get(0.1)
            if event.kind in ("present", "added", "changed"):
                entries[event.entry.name] = event.entry
    shown = Table(title=f"found in a registry of the demo's own, PID {private.pid}; nothing is configured")
    for heading in ("name", "PID", "address"):
        shown.add_column(heading)
    for name, entry in sorted(entries.items()):
        shown.add_row(name, str(entry.metadata.get("pid", entry.pid)), entry.address)
    return shown


def until_missed(search, source):
    """Kills the publisher; how many seconds later the registry tells of it."""
    begun = time.monotonic()
    source.send_signal(signal.SIGKILL)
    while True:
        event = search.get(WAIT_S)
        if event.kind == "removed" and event.entry.name == OBSERVABLE + NAME:
            return time.monotonic() - begun


def keys_of(observer):
    try:
        return observer.keys(NAME)
    except UnknownNameError:
        return ()  # the publisher is still starting
