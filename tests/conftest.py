"""Rules for every test: it leaves nothing behind, and it cannot hang.

After each test this process must have the descriptors it had before, no child that it did not have before (children of
children are found too: they are handed to this process when their parent goes), and no new shared memory object of
ours may be left. A test that is still running after its limit (120 s; `@pytest.mark.watchdog(seconds)` for another)
fails with a picture of all its processes; should even that not end it, the whole run is aborted.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
from pathlib import Path

import leaks
import psutil
import pytest
import shimlib

_LIMIT = 120.0
_memory = leaks.SharedMemory()
os.environ["KVOSHIM_WARMUP"] = "0"  # connections of these processes switch at their first bytes: tests talk little
_WATCHDOG_SIGNAL = signal.SIGRTMIN + 5
_PR_SET_CHILD_SUBREAPER = 36


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "watchdog(seconds): the test fails when it runs longer (default 120 s)")
    config.addinivalue_line("markers", "leaves_shared_memory: do not look for left shared memory after this test")
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # programs are not to inherit that a background job ignores it


def _process_table() -> str:
    lines = []
    for p in psutil.Process().children(recursive=True):
        try:
            wchan = Path(f"/proc/{p.pid}/wchan").read_text()
            lines.append(f"  {p.pid} {p.status()} wchan {wchan}: {' '.join(p.cmdline())[:160]}")
        except (psutil.Error, OSError):
            continue
    return "\n".join(lines) or "  (no children)"


class Overdue(BaseException):
    """The watchdog's limit has passed. Not an Exception, so that no test catches it by accident."""


def _on_watchdog(signum, frame) -> None:
    raise Overdue(f"the test did not end in time; its processes:\n{_process_table()}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    """Arm the watchdog around set-up, call and tear-down of one test."""
    mark = item.get_closest_marker("watchdog")
    limit = float(mark.args[0]) if mark else _LIMIT
    signal.signal(_WATCHDOG_SIGNAL, _on_watchdog)
    main = threading.main_thread().ident
    done = threading.Event()

    def watch() -> None:
        if done.wait(limit):
            return
        signal.pthread_kill(main, _WATCHDOG_SIGNAL)
        if done.wait(60):
            return
        print(f"\nwatchdog: {item.nodeid} does not even end after it was interrupted; aborting\n{_process_table()}",
              file=sys.__stderr__, flush=True)
        faulthandler.dump_traceback(file=sys.__stderr__)
        for p in psutil.Process().children(recursive=True):
            p.kill()
        os._exit(3)

    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """Turn the watchdog's interrupt into an ordinary failure of this one test."""
    outcome = yield
    if outcome.excinfo and issubclass(outcome.excinfo[0], Overdue):
        outcome.force_exception(AssertionError(str(outcome.excinfo[1])))


def _rendezvous() -> set[str]:
    """What /proc/PID/fd calls the sockets on which processes take offers: each keeps one from its first connect() on."""
    with open("/proc/net/unix") as table:
        return {f"socket:[{line.split()[6]}]" for line in table if " @kvo2r" in line}


def _descriptors() -> dict[int, str]:
    found, kept = {}, _rendezvous()
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    reports = os.environ.get("SANITIZER_REPORTS", "-")  # a process's first one stays open; those that count fail the run
    return {fd: what for fd, what in found.items() if what not in kept and not what.startswith(reports)}


def _children() -> set[tuple[int, float]]:
    """All descendants that are alive; those that have ended are reaped on the way."""
    found = set()
    for p in psutil.Process().children(recursive=True):
        try:
            if p.status() == psutil.STATUS_ZOMBIE:
                if p.ppid() == os.getpid():
                    os.waitpid(p.pid, os.WNOHANG)
                continue
            found.add((p.pid, p.create_time()))
        except (psutil.Error, OSError):
            continue
    return found


def _settle(look, before, seconds: float = 3.0):
    """What `look()` shows beyond `before`, after giving things that are about to go a moment to do so."""
    end = time.monotonic() + seconds
    while (left := look() - before) and time.monotonic() < end:
        time.sleep(0.02)
    return left


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest):
    """Fail a test that leaves a descriptor, a child process or shared memory behind (and clean up after it)."""
    fds, children, shared = _descriptors(), _children(), _memory.look()
    yield
    problems = []
    if left := _settle(_children, children):
        problems.append(f"child processes left:\n{_process_table()}")
        for pid, started in left:
            try:
                p = psutil.Process(pid)
                if p.create_time() == started:
                    p.kill()
            except psutil.Error:
                continue
        _settle(_children, children)
    left_fds = _settle(lambda: set(_descriptors()), set(fds), 0.5)
    if left_fds:
        now = _descriptors()
        problems.append("descriptors left: " + ", ".join(f"{fd} -> {now.get(fd, '(gone)')}" for fd in sorted(left_fds)))
    if not request.node.get_closest_marker("leaves_shared_memory") and (left := _settle(_memory.look, shared)):
        problems.append("shared memory left in /dev/shm: " + ", ".join(sorted(left)))
        for name in left:
            Path("/dev/shm", name).unlink(missing_ok=True)
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def place():
    """A short, private directory for sockets and data (see shimlib.Place)."""
    p = shimlib.Place()
    yield p
    p.remove()


@pytest.fixture(scope="session")
def snippets():
    """Compiles the C programs of tests/preload/snippets on demand: `snippets("dup")` is the path of the program."""
    import snippetlib

    return snippetlib.compiled
