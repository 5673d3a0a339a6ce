"""What a client does with what the controller says: answers wake those who asked, notifications become callbacks."""

from __future__ import annotations

import logging
import os
import resource
import threading
from collections.abc import Callable
from typing import Any

from kvoshim._bell import Bell
from kvoshim._delivery import dispatch
from kvoshim._monitor import Monitor
from kvoshim.errors import KvoshimError, LimitError, ProtocolError
from kvoshim.kvo import wire
from kvoshim.kvo.direct import BROKEN, LINK
from kvoshim.kvo.handle import Handle
from kvoshim.kvo.link import Link, LinkLost

log = logging.getLogger("kvoshim.client")


_ROUNDS = 4  # of taking in before the rest of the program has its turn; the descriptor stays readable
_BELLS_MAX = 256  # clients that this process rings itself: a descriptor each


class Call:
    """A request that waits for its answer; sent again after a reconnection."""

    def __init__(
        self,
        build: Callable[..., wire.Message],
        fd: int = -1,
        then: Callable[[Link, Any], None] | None = None,
        finished: Callable[[Call], None] | None = None,
    ) -> None:
        self.build = build
        self.fd = fd
        self.then = then
        self.finished = finished  # called with the answer, for who does not wait
        self.answered = threading.Event()
        self.answer: Any = None
        self.rows: list[wire.Row] = []


class Intake:
    """Part of Client."""

    def take_in(self) -> None:
        """Waits for messages and handles them; connects again if the connection is lost. What a background thread
        does over and over."""
        link = self._link
        try:
            if link is None:
                raise LinkLost("no connection")
            if self.direct.sleeper is None:
                self._take_in(link, link.receive())
            else:
                self._hear(link)
            self._dispatch()
        except LinkLost as error:
            if not self.closing:
                self._reconnect(error, dispatch=True)
        except Exception:
            log.exception("a message from the controller could not be handled")

    def _hear(self, link: Link) -> None:
        """Waits for the controller and for observables."""
        found = self.direct.listen(link.sock.fileno())
        if found & BROKEN:  # first: the controller may be about to give another one
            self.direct.broken()
        if found & LINK or not found:
            self._take_in(link, link.receive(0))

    def process(self, timeout: float | None = 0) -> None:
        """Handles what there is, after waiting for it for at most so long (None: without limit). What a program without
        our thread does when the descriptor is readable."""
        self.check()
        self.driver.wait(timeout)
        self.driver.feel_pulse()
        direct = self.direct
        if direct.sleeper is not None:
            direct.sleeper.disarm()
            if not direct.sleeper.silence():
                direct.broken()
        try:
            if self._link is None:
                self._try_again()
            link = self._link
            for _ in range(_ROUNDS):
                if link is None or self.closing:
                    break
                messages = link.receive(0)
                direct.look()
                if not messages and not self._todo:
                    break
                self._take_in(link, messages)
                self._dispatch()
            if link is None:
                direct.look()
            if self.driver.rung() and self._suspects:
                self._examine_suspects()
                self._examine_later()
            self._dispatch()
        except LinkLost as error:
            if not self.closing:
                self._lose(error)
                self._try_again()
                self._dispatch()
        finally:
            if direct.sleeper is not None and not direct.sleeper.arm(direct.renew().stores):
                self.driver.again()

    def _take_in(self, link: Link, messages: list[wire.Message]) -> None:
        """Handles what needs no callback at once; notes the rest in `todo`."""
        self._fresh.clear()
        for message in messages:
            if isinstance(message, wire.Notify):
                for registration, slot, _version in message.items:
                    self._todo[registration, slot] = None
            elif isinstance(message, wire.Offered):
                try:
                    self._adopt(link, message.info)
                except KvoshimError as error:
                    log.error("the store of %r cannot be read: %s", message.info.name, error)
            elif isinstance(message, wire.Gone):
                handle = self.handles.get(message.name)
                if handle is not None and handle.instance == message.instance:
                    handle.end()
                    handle.discarded = message.discarded
                    self.direct.changed(handle.name)
                    self._refresh_later(handle.name)
            elif isinstance(message, wire.Look):
                self._refresh_later(message.name)
            elif isinstance(message, wire.Direct):
                self.direct.rings(message.name, message.on)
            elif isinstance(message, wire.Link):
                self._on_link(link, message)
            elif isinstance(message, wire.Unlink):
                publication = self.publications.get(message.name)
                if publication is not None:
                    publication.writer.unlink(message.number)
            elif isinstance(message, wire.Raise):
                publication = self.publications.get(message.name)
                if publication is not None:
                    publication.raise_floor(message.floor)
            elif isinstance(message, wire.Count):
                link.send(self.tally.report(link.counted))
            elif isinstance(message, wire.Denied):
                self._deny(message.name, message.publish, wire.PROTOCOL.error(message.code, message.text))
            else:
                self._on_answer(link, message)
        if self._suspects:
            self._examine_suspects()

    def _on_link(self, link: Link, message: wire.Link) -> None:
        """Begins to ring another client."""
        publication = self.publications.get(message.name)
        fds = []
        try:
            fds += [link.channel.take(message.page), link.channel.take(message.socket)]
            bell = self.bells.get(message.bell)
            if bell is None:
                if len(self.bells) >= _BELLS_MAX or max(fds) > resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2:
                    raise LimitError("this process has no descriptor to spare for another bell")
                bell = self.bells[message.bell] = Bell(*fds)
            if publication is not None:
                publication.writer.link(message.number, message.row, bell)
        except ProtocolError as error:
            raise LinkLost(str(error)) from None
        except KvoshimError as error:
            log.info("%r goes through the controller for a client: %s", message.name, error)
            publication = None
        finally:
            for fd in fds:
                os.close(fd)
        link.send(wire.Linked(message.number, publication is not None))

    def _on_answer(self, link: Link, message: Any) -> None:
        call = self._calls.get(message.request) or Call(wire.Ping)
        answer = message
        try:
            if isinstance(message, wire.Listing):
                call.rows.extend(message.rows)
                if message.more:
                    return
                answer = call.rows
            elif isinstance(message, wire.Failed):
                answer = wire.PROTOCOL.error(message.code, message.text)
            elif isinstance(message, wire.Claimed):
                answer = message, link.channel.take(message.ticket) if message.ticket else -1
            elif isinstance(message, wire.Opened):
                self._adopt(link, message.info)
            elif isinstance(message, wire.Observed):
                if message.info is not None:
                    self._adopt(link, message.info)
            if call.then is not None and not isinstance(answer, KvoshimError):
                call.then(link, message)
        except ProtocolError as error:
            raise LinkLost(str(error)) from None
        except KvoshimError as error:
            answer = error
        call.answer = answer
        call.answered.set()
        if call.finished is not None:
            call.finished(call)

    def _adopt(self, link: Link, info: wire.StoreInfo) -> None:
        """Takes over what the controller says of a store, and the store if it is another than before."""
        handle = self.handles.get(info.name)
        fd = link.channel.take(info.ticket) if info.ticket else -1
        try:
            if handle is not None and handle.instance == info.instance:
                if handle.live == info.live and handle not in self._suspects:
                    return  # nothing new
                handle.live = info.live
                handle.reader.ended = not info.live
            elif fd < 0:
                raise ProtocolError(f"the controller gave no descriptor for {info.name!r}")
            else:
                reader = Monitor(fd)
                if handle is not None:
                    self._drop_handle(handle)
                handle = Handle(info.name, info.pid, info.start, info.instance, info.live, reader)
                self.handles[info.name] = handle
        finally:
            if fd >= 0:
                os.close(fd)
        self._suspects.discard(handle)
        self.direct.changed(info.name)
        self._refresh_later(info.name)

    def _drop_handle(self, handle: Handle) -> None:
        for target in [target for target, known in self.handles.items() if known is handle]:
            del self.handles[target]
        self._suspects.discard(handle)
        self.direct.dropped()

    def _deny(self, name: str, publish: bool, error: KvoshimError) -> None:
        """The controller no longer admits this process to a name."""
        if publish:
            publication = self.publications.get(name)
            if publication is not None:
                publication.deny(error)
            return
        handle = self.handles.get(name)
        if handle is not None:
            self._drop_handle(handle)
        for number, observation in list(self.observations.items()):
            if observation.name == name:
                observation.denied = error
                self._todo[number, None] = None

    def _refresh_later(self, name: str) -> None:
        for number, observation in list(self.observations.items()):
            if observation.name == name and number == next(iter(observation.numbers)):
                self._todo[number, None] = None

    def _dispatch(self) -> None:
        """Runs the callbacks that are due."""
        self._fresh.clear()
        dispatch(self._todo, self._runs, self._fresh, self.observations, self.handles)
        for handle in [handle for handle in self.handles.values() if handle.discarded]:
            self._drop_handle(handle)
