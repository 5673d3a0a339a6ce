"""How a client asks its controller, and waits for the answer, in whatever thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvoshim.errors import ClosedError, ControllerHungError, ControllerUnavailableError, KvoshimError, RateLimitError
from kvoshim.kvo import wire
from kvoshim.kvo.intake import Call
from kvoshim.kvo.link import Link, LinkLost

if TYPE_CHECKING:
    import asyncio

    from kvoshim.kvo.observation import Observation

ANSWER_S = 15.0  # for the controller to answer, restarts included
_LOOK_S = 0.25  # between looks whether it is hung
RATE_S = 0.05  # before something that came too soon is asked for again


class Requesting:
    """Part of Client."""

    def request(
        self,
        build: Callable[..., wire.Message],
        fd: int = -1,
        link: Link | None = None,
        then: Callable[[Link, Any], None] | None = None,
    ) -> Any:
        """Sends build(request number) and waits for the answer; with `fd`: build(request number, ticket).

        then(link, answer) runs where answers are taken in, before anything else that came over the link is handled.
        Raises the error that the controller answers with; ControllerUnavailableError if it does not answer. With `link`,
        which is how things are handed in after a reconnection, the request is bound to that connection: LinkLost.
        """
        while True:
            try:
                return self._request(build, fd, link, then)
            except RateLimitError:
                if link is None or self.closing:
                    raise
                time.sleep(RATE_S)  # what this process has is handed in, however long it takes

    def _request(self, build: Callable[..., wire.Message], fd: int, link: Link | None, then: Callable | None) -> Any:
        call = Call(build, fd, then)
        number = self._enter_call(call)
        current = link or self._link
        try:
            if current is not None:
                try:
                    self._transmit(current, number, call)
                except LinkLost:
                    if link is not None:
                        raise
            if link is not None:
                self._await(link, call)
            elif self.driver.here():
                self._pump(call)
            else:
                self._wait(call)
        finally:
            with self._lock:
                del self._calls[number]
        self.driver.poke()  # what came along with the answer is still to be delivered
        if isinstance(call.answer, KvoshimError):
            raise call.answer
        return call.answer

    def _enter_call(self, call: Call) -> int:
        self.check()
        if self.closing:
            raise ClosedError("the client was closed")
        with self._lock:
            self._number += 1
            self._calls[self._number] = call
            return self._number

    def start(
        self,
        build: Callable[..., wire.Message],
        finished: Callable[[KvoshimError | None], None],
        fd: int = -1,
        then: Callable[[Link, Any], None] | None = None,
    ) -> None:
        """As request(), but does not wait: finished(error or None) is called where answers are taken in."""

        def end(call: Call) -> None:
            with self._lock:
                del self._calls[number]
            finished(call.answer if isinstance(call.answer, KvoshimError) else None)

        call = Call(build, fd, then, end)
        number = self._enter_call(call)
        link = self._link
        if link is not None:
            try:
                self._transmit(link, number, call)
            except LinkLost:
                pass  # sent again after the reconnection

    async def finish(self, future: asyncio.Future, observation: Observation) -> None:
        """Waits, for as long as request() does, until whoever calls finished() has set the future. ClosedError if the observation
        is closed meanwhile."""
        import asyncio

        deadline = time.monotonic() + ANSWER_S
        while not future.done():
            await asyncio.wait([future], timeout=_LOOK_S)
            if not future.done():
                if observation.closed or self.closing:
                    raise ClosedError("the observation is closed")
                self._check_late(deadline)

    def post(self, message: wire.Message) -> None:
        """Sends a message that has no answer; lost with the connection, which is then made good by handing
        in."""
        link = self._link
        if link is not None:
            try:
                link.send(message)
            except LinkLost:
                pass

    @staticmethod
    def _transmit(link: Link, number: int, call: Call) -> None:
        if call.fd >= 0:
            link.send_with_descriptor(lambda ticket: call.build(number, ticket), call.fd)
        else:
            link.send(call.build(number))

    def _wait(self, call: Call) -> None:
        deadline = time.monotonic() + ANSWER_S
        while not call.answered.wait(min(_LOOK_S, max(0.0, deadline - time.monotonic()))):
            self._check_late(deadline)

    def _check_late(self, deadline: float) -> None:
        """Whether to wait on for an answer."""
        if self.hung:
            raise ControllerHungError(f"the controller at {self.path} is hung: it gives no sign of life")
        if time.monotonic() > deadline:
            raise ControllerUnavailableError(f"the controller at {self.path} has not answered for {ANSWER_S:g} s")

    def _await(self, link: Link, call: Call) -> None:
        deadline = time.monotonic() + ANSWER_S
        while not call.answered.is_set():
            self._take_in(link, link.receive(min(_LOOK_S, max(0.0, deadline - time.monotonic()))))
            self.feel_pulse(link)
            self._check_late(deadline)

    def _pump(self, call: Call) -> None:
        deadline = time.monotonic() + ANSWER_S
        while not call.answered.is_set():
            link = self._link
            try:
                if link is None:
                    raise LinkLost("no connection")
                self._await(link, call)
            except LinkLost as error:
                self._reconnect(error, deadline)
                if self._link is None:
                    raise ControllerUnavailableError(
                        f"the controller at {self.path} is gone: {error}"
                    ) from None
