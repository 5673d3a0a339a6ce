"""The other end of configd's socket, for whatever asks it: the restarter, the command line, anybody's program.

    with Client() as configd:
        here = configd.read("web/nginx")
        configd.transact(SetProperty(target="web/nginx:default", group="config", name="workers", value=4))

A program with an event loop of its own waits for fileno() and calls receive(0); submit() does not wait for the answer.
"""

from __future__ import annotations

import itertools
import os
import select
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from kvoshim import socket
from kvoshim.errors import KvoshimError, ProtocolError, RepositoryUnavailableError
from kvoshim.process.framing import frame
from kvoshim.services.configd import place, wire
from kvoshim.services.core.model import Service
from kvoshim.services.core.operations import AnyOperation

TIMEOUT_S = 30.0


def updated(services: Mapping[str, Service], happened: wire.Happened) -> dict[str, Service]:
    """The services as they are behind a change: for who keeps what watch() gave, and what changes() tells."""
    result = {**services, **{name: one for name, one in happened.services.items() if one is not None}}
    for name, one in happened.services.items():
        if one is None:
            result.pop(name, None)
    for target, volatile in happened.volatile.items():
        name, _, short = target.partition(":")
        service = result[name]
        instances = {**service.instances, short: replace(service.instances[short], volatile=volatile)}
        result[name] = replace(service, instances=instances)
    return result


class Client:
    """One connection. directory: the repository's (default: KVOSHIM_SERVICES, else the user's own). timeout: seconds for each answer.

    Not for several threads at a time. When configd ends, every call raises RepositoryUnavailableError: make a new Client.

    RepositoryUnavailableError; AccessDeniedError or LimitError if configd does not want this client."""

    def __init__(self, directory: str | os.PathLike[str] = "", *, timeout: float = TIMEOUT_S) -> None:
        self.directory = place.repository_directory(directory)
        self.path = place.socket_path(self.directory)
        self.timeout = timeout
        self.happened: deque[wire.Happened] = deque()  # told while something else was waited for
        self._requests = itertools.count(1)
        self._frames = wire.PROTOCOL.of_daemon()
        self._answers: dict[int, wire.Message] = {}
        self._submitted: set[int] = set()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect()
        except BaseException:
            self._sock.close()
            raise

    def _connect(self) -> None:
        try:
            self._sock.settimeout(self.timeout)
            self._sock.connect(self.path)
        except (OSError, ValueError) as error:
            raise RepositoryUnavailableError(
                f"no configd answers at {self.path}: {getattr(error, 'strerror', None) or error} (kvoshim configd --detach starts one)"
            ) from None
        try:
            self._send(wire.Hello(wire.VERSION, os.path.basename(sys.argv[0] or "python")[:64]))
        except RepositoryUnavailableError:
            pass  # it may have said why
        deadline = time.monotonic() + self.timeout
        messages = self._receive(deadline)
        if not messages:
            raise RepositoryUnavailableError(f"configd at {self.path} has not answered for {self.timeout:g} s")
        welcome, *rest = messages
        if isinstance(welcome, wire.Failed):
            raise wire.PROTOCOL.error(welcome.code, welcome.text)
        if not isinstance(welcome, wire.Welcome) or welcome.version != wire.VERSION or rest:
            raise ProtocolError(f"what listens at {self.path} does not speak version {wire.VERSION}")
        self.pid = welcome.pid
        self.read_only = welcome.reason  # why, when the connection was made; "" if it was not

    # --- asking ---------------------------------------------

    def read(self, *services: str) -> wire.Here:
        """The services of these names, or all; in one revision. Those that there are not are not in the answer."""
        return self._ask(wire.Read(next(self._requests), services))

    def transact(self, *operations: AnyOperation, expected: int | None = None) -> wire.Done:
        """All of the operations or none; on the disk when it returns. expected: the repository's revision.

        ConflictError, InvalidServiceError, UnknownServiceError, AccessDeniedError, ReadOnlyRepositoryError, StorageError: nothing
        has changed. RepositoryUnavailableError: configd has ended before it answered, and it may have happened or not."""
        return self._ask(wire.Transact(next(self._requests), tuple(operations), expected))

    def watch(self, on: bool = True) -> wire.Here:
        """All services as they are now; each change since then is told, see changes()."""
        return self._ask(wire.Watch(next(self._requests), on))

    def changes(self, timeout: float | None = None) -> list[wire.Happened]:
        """What has happened since the last call; waits for something, with a timeout (seconds) perhaps for nothing."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.happened:
            self._take(self._receive(deadline))
            if deadline is not None and time.monotonic() >= deadline:
                break
        told = list(self.happened)
        self.happened.clear()
        return told

    def _ask(self, message: wire.Message) -> wire.Message:
        self._send(message)
        deadline = time.monotonic() + self.timeout
        while message.request not in self._answers:
            if time.monotonic() >= deadline:
                self.close()  # its answer would be taken for another's
                raise RepositoryUnavailableError(f"configd at {self.path} has not answered for {self.timeout:g} s")
            self._take(self._receive(deadline))
        answer = self._answers.pop(message.request)
        if isinstance(answer, wire.Failed):
            raise wire.PROTOCOL.error(answer.code, answer.text)
        return answer

    # --- for a loop of one's own ---------------------------------------------

    def fileno(self) -> int:
        """What becomes readable when receive() has something."""
        return self._sock.fileno()

    def submit(self, operations: Iterable[AnyOperation], expected: int | None = None) -> int:
        """Begins a transaction; the answer with this request number comes from receive()."""
        request = next(self._requests)
        self._submitted.add(request)
        self._send(wire.Transact(request, tuple(operations), expected))
        return request

    def receive(self, timeout: float | None = 0) -> list[wire.Happened | tuple[int, wire.Done | KvoshimError]]:
        """What has come: changes, if watched, and the answers to submit() as (request, Done or the error)."""
        self._take(self._receive(None if timeout is None else time.monotonic() + timeout))
        told: list = list(self.happened)
        self.happened.clear()
        for request in sorted(self._submitted & self._answers.keys()):
            answer = self._answers.pop(request)
            self._submitted.discard(request)
            told.append((request, wire.PROTOCOL.error(answer.code, answer.text) if isinstance(answer, wire.Failed) else answer))
        return told

    # --- bytes ---------------------------------------------

    def _send(self, message: wire.Message) -> None:
        data = frame(message)
        if len(data) > wire.CLIENT_MAX:
            raise ProtocolError(f"a message may have {wire.CLIENT_MAX} bytes, not {len(data)}")
        try:
            self._sock.settimeout(self.timeout)
            self._sock.sendall(data)
            self._sock.settimeout(None)  # a timeout would hold up recv(MSG_DONTWAIT), too
        except OSError as error:
            raise self._lost(error) from None

    def _receive(self, deadline: float | None) -> list[wire.Message]:
        """At least one message, unless the deadline comes first."""
        while True:
            try:
                data = self._sock.recv(1 << 18, socket.MSG_DONTWAIT)
            except BlockingIOError:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return []
                waiting = select.poll()
                waiting.register(self._sock.fileno(), select.POLLIN)
                waiting.poll(None if left is None else left * 1000)
                continue
            except OSError as error:
                raise self._lost(error) from None
            if not data:
                raise self._lost("it has closed the connection")
            if messages := list(self._frames.feed(data)):
                return messages

    def _lost(self, why: object) -> RepositoryUnavailableError:
        return RepositoryUnavailableError(f"configd at {self.path} is gone: {why}")

    def _take(self, messages: list[wire.Message]) -> None:
        for message in messages:
            if isinstance(message, wire.Happened):
                self.happened.append(message)
            elif message.request:
                self._answers[message.request] = message
            elif isinstance(message, wire.Failed):
                raise wire.PROTOCOL.error(message.code, message.text)

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
