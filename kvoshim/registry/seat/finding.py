"""Finding the registry, and seeing to it that there is one.

    read the port file -> connect -> prove -> there it is
         |                  |         |
         |                  |         a stranger, or nobody says anything
         |                  nobody listens
         missing, empty, unusable
                    |
         the start lock --- another has it ------------> wait a moment, begin again
                    |
         look once more; does anybody hold the registry's lock? -- yes -> wait a moment, begin again
                    | no
         start the daemon: it takes that lock, empties the port file, listens, writes the port file; begin again

So many may begin at once, after the holder's death all of them: one starts one daemon, whatever a crash has left behind.
Whoever waits looks at the port file's inode, and connects when that is another one.
"""

from __future__ import annotations

import logging
import math
import os
import random
import shlex
import time
from dataclasses import dataclass

from kvoshim import background, identity, socket
from kvoshim.errors import (
    LaunchError,
    PrivateRegistryGoneError,
    ProofError,
    RegistryHungError,
    RegistryPlaceError,
    RegistryStartError,
    RegistryUnavailableError,
)
from kvoshim.registry.seat import policy, proof
from kvoshim.registry.seat.notice import Notice
from kvoshim.registry.seat.place import Place
from kvoshim.registry.seat.portfile import Reading, Record, State
from kvoshim.registry.seat.scope import VARIABLE, Scope

log = logging.getLogger("kvoshim.registry")

ANSWER_S = 1.0  # for what listens at the recorded place to prove itself
_PAUSE_S = (0.005, 0.1)  # first and longest, between two looks
_STARTING_S = (0.3, 1.2)  # the same while another starts the daemon: whoever waits hears when the port file is there
_FAR_S = 0.3  # between looks into the home directory, each of which takes a thread


@dataclass(frozen=True, eq=False)
class Contact:
    """A connection to the registry, proven both ways. scope: where it is, which may be another one than was asked for."""

    sock: socket.socket
    scope: Scope
    address: str
    pid: int
    uid: int
    facts: dict[str, str]


def connect(scope: Scope | None = None, timeout: float | None = None, *, start: policy.Start | None = None) -> Contact:
    """The registry of the scope (default: this process's), which is started if there is none.

    timeout: seconds, default as configured. start: as in configure(). RegistryUnavailableError and its kinds;
    ConfigurationError from the global file.
    """
    settled = policy.settle()
    if scope is None:
        scope = policy.choose()
    search = _Search(scope, settled.timeout if timeout is None else timeout, settled.start if start is None else start)
    try:
        return search.run()
    except RegistryUnavailableError as error:
        if not (scope.private and scope.from_environment):
            raise
        log.warning("%s; this process uses the registry of its user", error)
    finally:
        search.close()
    return connect(Scope(), timeout, start=start)


def race(scope: Scope, timeout: float | None = None, *, start: policy.Start | None = None, jitter: float = 0.02) -> Contact:
    """For those whose registry has died: all begin at once, one starts its successor, and all are connected to that.
    PrivateRegistryGoneError where nobody takes a dead holder's place; else as connect()."""
    if scope.private:
        raise PrivateRegistryGoneError(f"the launcher of this group has ended, and with it the registry in {scope.directory}")
    time.sleep(random.uniform(0, jitter))
    return connect(scope, timeout, start=start)


class _Search:
    """One call of connect()."""

    def __init__(self, scope: Scope, timeout: float, start: policy.Start) -> None:
        self.scope = scope
        self.places = scope.places()
        self.timeout = timeout
        self.deadline = time.monotonic() + timeout
        self.start = start
        self.may_start = bool(start) and not scope.private and scope.owner == os.geteuid()
        self.finding = ""  # why there is none, in words
        self._read: dict[Place, Reading] = {}
        self._vain: dict[Record, float] = {}  # who was tried in vain, and when to try again
        self._pause = _PAUSE_S[0]
        self._notice: Notice | None = None
        self._new = self._deaf = False
        self._far = 0.0  # when to look into the home directory again
        self._waits = False  # somebody may be becoming the registry

    def run(self) -> Contact:
        while True:
            if (found := self._look()) is not None:
                return found
            if self.scope.private and not self._waits:
                raise RegistryUnavailableError(self._words("no registry answers"))
            if not self.may_start and not self._waits and not self._holder():
                raise RegistryUnavailableError(self._words("no registry answers") + self._why_not())
            if time.monotonic() > self.deadline:
                raise self._failure()
            if self.may_start and (found := self._start()) is not None:
                return found
            self._wait()
            self.places = self.scope.places()

    def _wait(self) -> None:
        pause = min(random.uniform(0.5, 1.5) * self._pause, max(0.0, self.deadline - time.monotonic()) + 0.001)
        if self._notice is None:
            time.sleep(pause)
            self._pause = min(1.5 * self._pause, _STARTING_S[1] if self._deaf else _PAUSE_S[1])
        elif self._new:
            self._new = False  # the port file may have come before anybody listened: one more look
        else:
            self._notice.wait(pause)
            self._pause = min(2 * self._pause, _STARTING_S[1])

    def _listen(self) -> None:
        """Another starts the daemon: from here on, the port file's coming is heard of."""
        if self._notice is not None or self._deaf:
            return
        self._pause = _STARTING_S[0]
        try:
            self._notice, self._new = Notice(self.places[0].directory), True
        except OSError as error:  # a user has 128 of these, mostly: who is more looks, but seldom
            self._deaf = True
            log.info("a registry is waited for by looking again and again: %s", error)

    def close(self) -> None:
        if self._notice is not None:
            self._notice.close()
            self._notice = None

    # --- looking ---------------------------------------------

    def _look(self) -> Contact | None:
        self._waits = False
        far = time.monotonic() >= self._far
        if far:
            self._far = time.monotonic() + _FAR_S
        for place in self.places:
            if place.far and not far:
                continue
            try:
                reading = self._read.get(place)
                if reading is None or reading.signature != place.signature():
                    reading = self._read[place] = place.read()
            except RegistryPlaceError as error:
                self.finding = str(error)
                continue
            if (found := self._try(place, reading)) is not None:
                return found
        return None

    def _try(self, place: Place, reading: Reading) -> Contact | None:
        if reading.state is not State.VALID:
            if reading.state is State.BECOMING:
                self._waits = bool(self._holder())
            if reading.state is not State.MISSING or not self.finding:
                self.finding = f"{place.path}: {reading.why or reading.state}"
            return None
        record = reading.record
        if time.monotonic() < self._vain.get(record, 0.0):
            return None
        again = math.inf
        try:
            return contact(self.scope, place, record)
        except (BlockingIOError, InterruptedError):
            self._waits, why, again = True, "is busy", 0.0  # its queue is full: many come at once
        except TimeoutError:
            self._waits, why, again = bool(self._holder()), "gives no answer", time.monotonic() + ANSWER_S
        except ProofError as error:
            why = f"is a stranger: {error}"
        except OSError as error:
            why = f"cannot be reached: {error.strerror or error}"
        self._vain[record] = again
        self.finding = f"what {place.path} names, {record.address}, {why}"
        return None

    def _holder(self) -> int:
        """Who holds the lock of one of the places; 0: nobody."""
        for place in self.places:
            try:
                if pid := place.holder():
                    return pid
            except RegistryPlaceError:
                continue
        return 0

    # --- starting ---------------------------------------------

    def _start(self) -> Contact | None:
        """Starts one, if it is this process's turn and nobody holds the place."""
        try:
            with self.places[0].starting() as first:
                if not first:
                    self._listen()
                    return None
                self._far = 0.0
                if (found := self._look()) is not None:
                    return found
                if not self._holder():
                    self.close()
                    self._pause = _PAUSE_S[0]
                    self._run_daemon()
                return None
        except RegistryPlaceError as error:
            raise RegistryUnavailableError(f"no registry can be started: {error}") from error

    def _run_daemon(self) -> None:
        if callable(self.start):
            self.start(self.scope)
            return
        launch(policy.start_words(self.start, self.scope), self.deadline)

    # --- failing ---------------------------------------------

    def _words(self, what: str) -> str:
        return f"{what} ({self.scope.text}){f': {self.finding}' if self.finding else ''}"

    def _why_not(self) -> str:
        if not self.start:
            return "; start one with `kvoshim registry serve`, or allow that it is started"
        return f"; only user {self.scope.owner} may start it"

    def _failure(self) -> RegistryUnavailableError:
        if pid := self._holder():
            who = f"PID {pid}" if pid > 0 else "another process"
            return RegistryHungError(self._words(f"{who} holds the registry's place and does not answer"))
        return RegistryUnavailableError(self._words(f"no registry came up within {self.timeout:g} s"))


def launch(words: list[str], deadline: float, without: tuple[str, ...] = (VARIABLE,), pass_fds: tuple[int, ...] = ()) -> None:
    """Starts a registry by a command, unless there is one by now. RegistryStartError."""
    try:
        code, text = background.run(words, max(1.0, deadline - time.monotonic()), without, pass_fds)
    except LaunchError as error:
        raise RegistryStartError(f"the registry could not be started: {error}") from error
    if code not in (background.READY, background.RUNS_ALREADY):
        raise RegistryStartError(f"`{shlex.join(words)}` exited with {code}: {text}")


def contact(scope: Scope, place: Place, record: Record) -> Contact:
    """A connection to whom a port file names, proven. ProofError; TimeoutError; OSError."""
    limit = time.monotonic() + ANSWER_S
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(ANSWER_S)
        sock.connect(record.address)
        pid, uid, _ = identity.peer(sock)
        if uid != place.owner:
            raise ProofError(f"it is user {uid}'s")
        proof.prove(sock, bytes.fromhex(record.cookie), limit)
        sock.settimeout(None)
    except BaseException:
        sock.close()
        raise
    return Contact(sock, scope, record.address, pid, uid, dict(record.facts))
