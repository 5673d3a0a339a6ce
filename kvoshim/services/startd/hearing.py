"""What services say: sd_notify messages, newlines, output; and the descriptors through which they do."""

from __future__ import annotations

import logging
import os
import socket
import struct
import time
from typing import TYPE_CHECKING

from kvoshim.errors import KvoshimError, SpawnerError
from kvoshim.services.core.states import UP, Event, Phase
from kvoshim.services.spawner import logs, notify
from kvoshim.services.spawner.notify import Notification, NotifySocket
from kvoshim.services.startd import channels, launching
from kvoshim.services.startd.unit import Unit

if TYPE_CHECKING:
    from kvoshim.services.startd.engine import Engine

log = logging.getLogger("kvoshim.startd")

_READY = b"READY=1"


def _boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Hearing:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    # --- opening ---------------------------------------------

    def log_path(self, unit: Unit) -> str:
        return unit.wishes.log.path or os.path.join(self.engine.log_directory, unit.name.replace("/", "+") + ".log")

    def log_fds(self, unit: Unit, closing: list[int]) -> dict[int, int]:
        """The write end of the log's pipe as standard output and error; closing: what is to be closed when the order is sent."""
        read_end, write_end = logs.open_pipe(self.engine.spawner, unit.key)
        closing.append(write_end)
        if unit.capture is not None:
            os.close(read_end)
        else:
            self._listen_to(unit, read_end)
        return {1: write_end, 2: write_end}

    def _listen_to(self, unit: Unit, read_end: int) -> None:
        wanted = unit.wishes.log
        unit.capture = logs.Capture(read_end, logs.LogFile(self.log_path(unit), wanted.size, wanted.keep))
        self.engine.loop.add_reader(unit.capture.fileno(), unit.capture.pump)

    def start_channels(self, unit: Unit, closing: list[int]) -> tuple[dict[int, int], dict[str, str], int]:
        """(descriptors, environment, how many of LISTEN_FDS) for a start."""
        engine, running, spawner = self.engine, unit.wishes.running, self.engine.spawner
        self.close_run_channels(unit)
        fds = self.log_fds(unit, closing)
        extra: dict[str, str] = {}
        if running.ready == "notify" or running.watchdog_s or running.reassert:
            self._listen_notify(unit, channels.notify_socket(spawner, unit.key, make=True))
            extra["NOTIFY_SOCKET"] = channels.notify_path(unit.key)
        if running.watchdog_s:
            extra["WATCHDOG_USEC"] = str(int(running.watchdog_s * 1e6))
        names = []
        number = launching.SOCKETS_FROM
        for name, address in unit.wishes.sockets:
            fd = channels.listening(spawner, unit.key, name, address)
            closing.append(fd)
            fds[number] = fd
            names.append(name)
            number += 1
        for name, fd in channels.stored(spawner, unit.key, engine.held):
            closing.append(fd)
            fds[number] = fd
            names.append(name)
            number += 1
        if names:
            extra |= {"LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names)}
        if running.ready == "newline":
            ours, theirs = channels.newline_channel(spawner, unit.key, make=True)
            fds[max(running.ready_fd, number)] = theirs.fileno()
            closing.append(theirs.detach())
            self._listen_newline(unit, ours)
        return fds, extra, len(names)

    def adopt_channels(self, unit: Unit) -> None:
        """Takes up what the spawner keeps of a unit."""
        spawner, held = self.engine.spawner, self.engine.held
        if f"notify:{unit.key}" in held and (sock := channels.notify_socket(spawner, unit.key, make=False)) is not None:
            self._listen_notify(unit, sock)
        if f"newline:{unit.key}" in held and (pair := channels.newline_channel(spawner, unit.key, make=False)) is not None:
            self._listen_newline(unit, pair[0])
        name = logs.pipe_names(unit.key)[0]
        if name in held and (fd := channels.fetch(spawner, name)) is not None:
            self._listen_to(unit, fd)

    def _listen_notify(self, unit: Unit, sock: socket.socket) -> None:
        unit.notify_raw = sock
        unit.notify = NotifySocket(sock, lambda sender: self._belongs(unit, sender.pid))
        self.engine.loop.add_reader(sock.fileno(), self._notified, unit)

    def _belongs(self, unit: Unit, pid: int) -> bool:
        if unit.main is None and unit.ordered:
            return True  # it is quicker than the spawner's answer; the socket is its own
        return pid == unit.status.pid or unit.tree is not None and unit.tree.contains(pid)

    def _listen_newline(self, unit: Unit, sock: socket.socket) -> None:
        sock.setblocking(False)
        unit.newline = sock
        self.engine.loop.add_reader(sock.fileno(), self._newline, unit)

    # --- closing ---------------------------------------------

    def close_run_channels(self, unit: Unit) -> None:
        """Those of one run. The spawner's stay until the next one's take their place."""
        if unit.notify is not None:
            self.engine.loop.remove_reader(unit.notify.fileno())
            unit.notify.close()
            unit.notify = unit.notify_raw = None
        if unit.newline is not None:
            self.engine.loop.remove_reader(unit.newline.fileno())
            unit.newline.close()
            unit.newline = None

    def close_channels(self, unit: Unit) -> None:
        self.close_run_channels(unit)
        if unit.capture is not None:
            self.engine.loop.remove_reader(unit.capture.fileno())
            unit.capture.close()
            unit.capture = None

    # --- hearing ---------------------------------------------

    def _notified(self, unit: Unit) -> None:
        """READY is taken only when the repository knows of it: a restarter killed between the two would wait for it for ever."""
        if unit.status.phase in (Phase.STARTING, Phase.REFRESHING) and self._says_ready(unit):
            self._is_ready(unit)
            self.engine.commit(unit)
        if unit.notify is None:
            return
        for notification in unit.notify.receive():
            try:
                self._take(unit, notification)
            finally:
                notify.done(notification)
        self.engine.look((unit.name,))

    def _says_ready(self, unit: Unit) -> bool:
        try:
            data, parts, _, _ = unit.notify_raw.recvmsg(8192, socket.CMSG_SPACE(12), socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return False
        for level, kind, part in parts:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                return _READY in data.split(b"\n") and self._belongs(unit, struct.unpack("3i", part[:12])[0])
        return False

    def _is_ready(self, unit: Unit) -> None:
        if unit.status.phase is Phase.STARTING:
            if unit.wishes.running.ready == "notify":
                self.engine.apply(unit, Event.READY)
        elif unit.status.phase is Phase.REFRESHING and unit.wishes.running.reassert:
            self.refreshed(unit)  # type: ignore[attr-defined]

    def _take(self, unit: Unit, said: Notification) -> None:
        if said.ready:
            self._is_ready(unit)
        if said.status is not None and said.status != unit.words:
            unit.words = said.status
            unit.dirty = True
        if said.watchdog_us:
            unit.watchdog_s = said.watchdog_us / 1e6
        if (said.watchdog or said.watchdog_us) and unit.watchdog_s and unit.status.phase in UP:
            unit.watchdog = _boot() + unit.watchdog_s
        if said.trigger and unit.status.phase in UP:
            unit.watchdog = _boot()
        if said.extend_us and unit.start_deadline:
            unit.start_deadline = max(unit.start_deadline, _boot() + said.extend_us / 1e6)
        if said.errno:
            unit.words = f"{unit.words} ({os.strerror(said.errno)})".strip()
            unit.dirty = True
        try:
            if said.store:
                for fd in said.fds:
                    channels.store(self.engine.spawner, unit.key, said.fd_name, fd, self.engine.held)
            elif said.remove:
                channels.unstore(self.engine.spawner, unit.key, said.fd_name, self.engine.held)
        except (SpawnerError, KvoshimError) as error:
            log.warning("%s: a descriptor is not kept: %s", unit.name, error)

    def _newline(self, unit: Unit) -> None:
        sock = unit.newline
        try:
            data = sock.recv(4096, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if b"\n" in data and unit.status.phase is Phase.STARTING:
            self.engine.apply(unit, Event.READY)
            self.engine.commit(unit)
        try:
            if data:
                sock.recv(len(data))
        except OSError:
            data = b""
        if not data or unit.status.phase in UP:
            self.engine.loop.remove_reader(sock.fileno())
            sock.close()
            unit.newline = None
        self.engine.look((unit.name,))

    def last_words(self, unit: Unit) -> None:
        """What it has said before it ended."""
        if unit.notify is not None:
            self._notified(unit)
