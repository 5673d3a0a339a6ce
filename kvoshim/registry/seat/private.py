"""A registry for the children of one launcher. The environment is what they share, and nobody else: KVOSHIM_REGISTRY names the
registry's directory. The daemon lives as long as the launcher, or a child that it forked, holds the other end of its lifeline, a
pipe. Nobody becomes its successor: the group keeps the connections that it has.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence

from kvoshim import directories
from kvoshim.errors import RegistryPlaceError, RegistryStartError
from kvoshim.registry.seat import policy
from kvoshim.registry.seat.finding import launch
from kvoshim.registry.seat.scope import VARIABLE, Scope

END_S = 2.0  # for the daemon to end in order
_PREFIX = "private-"
_LEFT_S = 60.0  # before what looks left over is removed


class PrivateRegistry:
    """Runs from here to close(). environment: what the children get beside this process's own. semi: they see, too, what is
    registered where this process would register. DirectoryError; RegistryStartError."""

    def __init__(self, semi: bool = False, *, start: policy.Start | None = None, timeout: float | None = None) -> None:
        chosen = policy.policy()
        parent = directories.private_directory()
        _tidy(parent)
        try:
            directory = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent)
        except OSError as error:
            raise RegistryPlaceError(f"no directory can be made in {parent}: {error.strerror}") from error
        self.scope = Scope("semi-private" if semi else "private", directory)
        self.pid = 0
        self._owner = os.getpid()
        self._pidfd = -1
        reader, self._lifeline = os.pipe()
        try:
            deadline = time.monotonic() + (chosen.timeout if timeout is None else timeout)
            words = policy.start_words(chosen.start if start is None else start, self.scope)
            launch([*words, "--lifeline", str(reader)], deadline, () if semi else (VARIABLE,), (reader,))
            record = self.scope.places()[0].read().record
            if record is None:
                raise RegistryStartError("the private registry has ended at once")
            self.pid = record.pid
            with contextlib.suppress(OSError):  # it has ended since
                self._pidfd = os.pidfd_open(self.pid)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(reader)

    @property
    def environment(self) -> dict[str, str]:
        return {VARIABLE: self.scope.text}

    def close(self) -> None:
        """Ends the registry. In a forked child: lets go of it."""
        if self._lifeline < 0:
            return
        os.close(self._lifeline)
        self._lifeline = -1
        if self._owner == os.getpid():
            self._end()
            shutil.rmtree(self.scope.directory, ignore_errors=True)
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _end(self) -> None:
        if self._pidfd < 0:
            return
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        for number in (signal.SIGTERM, signal.SIGKILL):
            if poll.poll(END_S * 1000):
                return
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, number)
        poll.poll(END_S * 1000)

    def __enter__(self) -> PrivateRegistry:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _tidy(parent: str) -> None:
    """Removes what launchers left that were killed together with their registries."""
    for name in os.listdir(parent):
        found = re.match(rf"{_PREFIX}(\d+)-", name)
        directory = os.path.join(parent, name)
        with contextlib.suppress(OSError):
            if found is None or os.path.exists(f"/proc/{found[1]}") or time.time() - os.lstat(directory).st_mtime < _LEFT_S:
                continue
            if not Scope("private", directory).places()[0].holder():
                shutil.rmtree(directory, ignore_errors=True)


def launch_private(
    command: Sequence[str], semi: bool = False, *, start: policy.Start | None = None, timeout: float | None = None
) -> int:
    """Runs a command with a private registry of its own; returns its exit code, as a shell tells it. SIGTERM and SIGHUP go on to
    the command; SIGINT and SIGQUIT reach it from the terminal. Only in the main thread. OSError if it cannot be run; as
    PrivateRegistry."""
    with PrivateRegistry(semi, start=start, timeout=timeout) as registry:
        child: subprocess.Popen | None = None
        early: list[int] = []  # came before the command

        def forward(number: int, frame) -> None:
            if number not in (signal.SIGTERM, signal.SIGHUP):
                return
            if child is None:
                early.append(number)
            else:
                child.send_signal(number)

        numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
        old = {number: signal.signal(number, forward) for number in numbers if signal.getsignal(number) is not signal.SIG_IGN}
        try:
            child = subprocess.Popen(command, env={**os.environ, **registry.environment})
            for number in early:
                child.send_signal(number)
            code = child.wait()
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
    return code if code >= 0 else 128 - code
