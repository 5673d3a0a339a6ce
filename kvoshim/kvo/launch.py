"""Starting a controller on demand: many clients may try at once, exactly one succeeds.

The client that gets the start lock looks once more for a controller and starts one if there is still none.
The command `kvoshim controller --detach` binds its socket before it lets its parent go, so its exit code says
that it is ready; a second lock, held by the controller for life, rules out two at one path whatever happens
here.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time

from kvoshim import background
from kvoshim.errors import ControllerUnavailableError, LaunchError, ProtocolError
from kvoshim.kvo import paths
from kvoshim.kvo.link import Link

START_S = 20.0  # to wait for a controller to come up, whoever starts it


def connect(path: str, autostart: bool, registry: str = "") -> Link:
    """A link to the controller at `path`, which is started if there is none, and registers in the registry of that scope then.

    ControllerUnavailableError if none runs and `autostart` is false, or if none could be started.
    """
    try:
        return Link(path)
    except ProtocolError:
        raise
    except ControllerUnavailableError as error:
        if not autostart:
            raise ControllerUnavailableError(
                f"{error}; start one with `kvoshim controller`, or allow autostart"
            ) from None
    return _start(path, registry)


def _start(path: str, registry: str) -> Link:
    deadline = time.monotonic() + START_S
    try:
        lock = os.open(paths.start_lock(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ControllerUnavailableError(f"no controller can be started at {path}: {error}") from None
    try:
        while True:
            locked = _try_lock(lock)
            try:
                return Link(path)  # somebody else's start may have succeeded meanwhile
            except ProtocolError:
                raise
            except ControllerUnavailableError as error:
                if locked:
                    _spawn(path, registry, deadline)
                    locked = False  # next round: the link, or another try if the controller went down again
                if time.monotonic() > deadline:
                    raise ControllerUnavailableError(
                        f"no controller came up at {path} within {START_S:g} s: {error}"
                    ) from None
            time.sleep(0.01)
    finally:
        os.close(lock)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def _spawn(path: str, registry: str, deadline: float) -> None:
    if not sys.executable:
        raise ControllerUnavailableError(
            "no controller can be started: this program does not know its Python "
            "interpreter; start `kvoshim controller` by hand"
        )
    command = [sys.executable, "-P", "-m", "kvoshim", "controller", "--socket", path, "--detach"]
    if registry:
        command += ["--registry", registry]
    try:
        code, text = background.run(command, max(1.0, deadline - time.monotonic()))
    except LaunchError as error:
        raise ControllerUnavailableError(f"the controller could not be started: {error}") from None
    if code not in (background.READY, background.RUNS_ALREADY):
        raise ControllerUnavailableError(f"`kvoshim controller` exited with {code}: {text}")
