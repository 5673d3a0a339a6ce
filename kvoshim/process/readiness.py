"""Telling whoever started the daemon that it is ready: systemd's protocol (NOTIFY_SOCKET) and s6's (a newline on a
descriptor)."""

from __future__ import annotations

import logging
import os
import socket
import time

log = logging.getLogger("kvoshim.process")


class Notifier:
    """fd: gets a newline and is closed when the daemon is ready; -1: none. The environment's variables are taken
    out of it, so that child programs do not speak in our name."""

    def __init__(self, fd: int = -1) -> None:
        self._fd = fd
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        limit, pid = os.environ.pop("WATCHDOG_USEC", ""), os.environ.pop("WATCHDOG_PID", "")
        for_us = not pid or pid == str(os.getpid())
        #: seconds between two signs of life that the service manager asks for; 0: none
        self.watchdog_s = int(limit) / 2e6 if limit.isdigit() and for_us else 0.0

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.warning("the service manager cannot be told %s: %s", lines[0], error)

    def ready(self, status: str) -> None:
        self._send("READY=1", f"STATUS={status}", f"MAINPID={os.getpid()}")
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                os.write(fd, b"\n")
                os.close(fd)
            except OSError as error:
                log.warning("nobody listens on the readiness descriptor: %s", error)

    def reloading(self) -> None:
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self, status: str) -> None:
        self._send("READY=1", f"STATUS={status}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self) -> None:
        self._send("WATCHDOG=1")
