"""Who takes in what a controller says, and runs the callbacks. See client.py."""

from __future__ import annotations

import logging
import select
import threading
from typing import TYPE_CHECKING

from kvoshim._timer import Timer
from kvoshim.kvo.pulse import Watch

if TYPE_CHECKING:
    import asyncio

    from kvoshim.kvo.client import Client
    from kvoshim.kvo.link import Link

log = logging.getLogger("kvoshim.client")

JOIN_S = 15.0
_watch = Watch()


def after_fork() -> None:
    """In a forked child, which has no threads."""
    global _watch
    _watch = Watch()


class Driver:
    """What a client asks of its driver; this one does nothing."""

    attended = True  # takes in while the program waits for something in an event loop

    def begin(self, client: Client) -> None: ...

    def here(self) -> bool:
        """Whether this thread is the one that takes in."""
        raise NotImplementedError

    def usable(self) -> bool:
        """Whether somebody takes in."""
        return True

    def lost(self) -> None:
        """The connection is about to be closed."""

    def found(self, link: Link) -> None:
        """There is another one."""

    def hearing(self) -> None:
        """The client has a bell from now on."""

    def deaf(self) -> None:
        """The bell is about to be closed."""

    def again(self) -> None:
        """There is more to do, of which no descriptor tells."""

    def ring_in(self, seconds: float) -> None:
        """Lets somebody look at the client after so long, in place of what was asked for before."""

    def rung(self) -> bool:
        """Whether that moment has come."""
        return False

    def poke(self) -> None:
        """Something is to be delivered that does not make the descriptor readable."""

    def feel_pulse(self) -> None:
        """Looks after the controller if that is due."""

    def wait(self, timeout: float | None) -> None: ...

    def end(self) -> None: ...

    def abandon(self) -> None:
        """In a forked child."""


class ThreadDriver(Driver):
    """A background thread that sleeps in the connection itself: the shortest way from the controller to a callback."""

    def begin(self, client: Client) -> None:
        self._client = client
        self._timer: threading.Timer | None = None
        self._thread = threading.Thread(target=self._run, name="kvoshim-client", daemon=True)
        self._thread.start()
        _watch.add(client)

    def _run(self) -> None:
        client = self._client
        while not client.closing:
            client.take_in()
        client.abandon()

    def here(self) -> bool:
        return threading.current_thread() is self._thread

    def usable(self) -> bool:
        return self._thread.is_alive()

    def ring_in(self, seconds: float) -> None:
        # Callbacks belong to the one thread, which waits for the controller: let the controller answer something.
        self._timer = timer = threading.Timer(seconds, self._client.on_timer)
        timer.daemon = True
        timer.name = "kvoshim-suspects"
        timer.start()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        _watch.remove(self._client)
        if not self.here():
            self._thread.join(JOIN_S)


class ManualDriver(Driver):
    """A descriptor that is readable when there is something to do: connection and timer in an epoll set, so that it
    stays the same over reconnections."""

    attended = False

    def begin(self, client: Client) -> None:
        self._client = client
        self._thread = threading.get_ident()
        self._set = select.epoll()
        self._timer = Timer()
        self._set.register(self._timer.fileno(), select.EPOLLIN)
        self._pulse = Timer()
        self._pulse.set(1.0)
        self._set.register(self._pulse.fileno(), select.EPOLLIN)
        self._registered = self._heard = -1
        self.found(client.link)

    def fileno(self) -> int:
        return self._set.fileno()

    def here(self) -> bool:
        return threading.get_ident() == self._thread

    def found(self, link: Link) -> None:
        self._registered = link.sock.fileno()
        self._set.register(self._registered, select.EPOLLIN)

    def lost(self) -> None:
        self._registered = self._unregister(self._registered)

    def hearing(self) -> None:
        self._heard = self._client.direct.sleeper.bell
        self._set.register(self._heard, select.EPOLLIN)

    def deaf(self) -> None:
        self._heard = self._unregister(self._heard)

    def _unregister(self, fd: int) -> int:
        if fd >= 0 and not self._set.closed:
            try:
                self._set.unregister(fd)
            except OSError:
                pass
        return -1

    def again(self) -> None:
        self._timer.set(1e-9)

    def ring_in(self, seconds: float) -> None:
        self._timer.set(seconds)

    def rung(self) -> bool:
        return self._timer.take()

    def feel_pulse(self) -> None:
        if self._pulse.take():
            self._pulse.set(self._client.feel_pulse())

    def poke(self) -> None:
        if self._client._todo:
            self._timer.set(1e-9)

    def wait(self, timeout: float | None) -> None:
        if timeout != 0:
            self._set.poll(timeout)

    def end(self) -> None:
        self.lost()
        self._client.abandon()

    def abandon(self) -> None:
        self._set.close()
        self._timer.close()
        self._pulse.close()


class LoopDriver(ManualDriver):
    """An asyncio event loop watches the descriptor."""

    attended = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def begin(self, client: Client) -> None:
        super().begin(client)
        self._loop.add_reader(self.fileno(), self._ready)

    def _ready(self) -> None:
        if self._client.closing:
            return
        try:
            self._client.process()
        except Exception:
            log.exception("a message from the controller could not be handled")

    def usable(self) -> bool:
        return not self._loop.is_closed()

    def end(self) -> None:
        if not self._loop.is_closed() and not self._set.closed:
            if self.here():
                self._loop.remove_reader(self.fileno())
            else:
                # Another thread closes: the loop must let go of the descriptor before its number is free again.
                done = threading.Event()
                fd = self.fileno()
                try:
                    self._loop.call_soon_threadsafe(lambda: (self._loop.remove_reader(fd), done.set()))
                    done.wait(JOIN_S)
                except RuntimeError:  # the loop was closed just now
                    pass
        super().end()


