"""A small registry: holds its seat, proves itself, and says its PID to whoever has. Takes the options of the real one.

    python holder.py --scope TEXT [--detach] [--ready-fd N] [--lifeline FD] [--hold PHASE]

--hold: stop until SIGUSR1 after "claim", "listen" or "announce", as one that hangs or dies there.
"""

import argparse
import contextlib
import os
import selectors
import signal
import sys

from kvoshim.errors import KvoshimError, ProofError, SeatLostError
from kvoshim.registry import seat

parser = argparse.ArgumentParser()
parser.add_argument("--scope", type=seat.Scope.parse, default=seat.Scope())
parser.add_argument("--detach", action="store_true")
parser.add_argument("--ready-fd", type=int, default=-1)
parser.add_argument("--lifeline", type=int, default=-1)
parser.add_argument("--hold", default="")


def reach(phase: str, options) -> None:
    if options.hold == phase:
        signal.signal(signal.SIGUSR1, lambda *_: None)
        print(phase, flush=True)
        signal.pause()


def say(fd: int) -> None:
    if fd >= 0:
        with contextlib.suppress(BrokenPipeError):  # nobody waits for it
            os.write(fd, b"\n")
        os.close(fd)


class Daemon:
    def __init__(self, options) -> None:
        self.options = options
        self.selector = selectors.DefaultSelector()
        self.proofs = {}
        self.ended = False

    def serve(self, ready) -> int:
        mine = seat.claim(self.options.scope)
        if mine is None:
            return 3
        self.seat = mine
        try:
            reach("claim", self.options)
            self.watch(mine.listen())
            reach("listen", self.options)
            mine.announce({"who": "holder"})
            reach("announce", self.options)
            if self.options.lifeline >= 0:
                self.selector.register(self.options.lifeline, selectors.EVENT_READ, lambda fd: setattr(self, "ended", True))
            signal.signal(signal.SIGTERM, lambda *_: setattr(self, "ended", True))
            ready()
            self.loop()
            return 0
        finally:
            mine.close()

    def loop(self) -> None:
        while not self.ended:
            for key, _ in self.selector.select(0.1):
                key.data(key.fileobj)
            try:
                if (anew := self.seat.look()) is not None:
                    self.selector.unregister(self.listener)
                    self.listener.close()
                    self.watch(anew)
            except SeatLostError:
                return
            except KvoshimError as error:
                print(error, file=sys.stderr)

    def watch(self, listener) -> None:
        self.listener = listener
        self.selector.register(listener, selectors.EVENT_READ, self.accept)

    def accept(self, listener) -> None:
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        self.proofs[sock] = self.seat.proof()
        self.selector.register(sock, selectors.EVENT_READ, self.read)

    def read(self, sock) -> None:
        try:
            data = sock.recv(4096)
            if not data:
                raise ConnectionError
            if self.proofs[sock].done:
                return
            if answer := self.proofs[sock].feed(data):
                sock.send(answer)
            if self.proofs[sock].done:
                sock.send(b"%d\n" % os.getpid())
        except BlockingIOError:
            return
        except (OSError, ProofError):
            self.selector.unregister(sock)
            del self.proofs[sock]
            sock.close()


def main(arguments: list[str] | None = None) -> int:
    options = parser.parse_args(arguments)
    if not options.detach:
        return Daemon(options).serve(lambda: say(options.ready_fd))
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        with os.fdopen(reader, "rb") as answer:
            code = answer.read()
        return int(code or b"1")
    os.close(reader)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    code = 1
    try:
        code = Daemon(options).serve(lambda: (os.write(writer, b"0"), os.close(writer)))
        if code:
            os.write(writer, b"%d" % code)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
