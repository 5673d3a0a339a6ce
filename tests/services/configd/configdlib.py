"""A real configd in a directory of its own."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from kvoshim.process import ControlClient
from kvoshim.services.configd.client import Client


class Stage:
    """Starts daemons and commands; ends what it has started."""

    def __init__(self, place) -> None:
        self.directory: Path = place / "repository"
        (place / "run").mkdir(mode=0o700)
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("KVOSHIM_", "XDG_"))
        } | {
            "XDG_RUNTIME_DIR": str(place / "run"),
            "KVOSHIM_SERVICES": str(self.directory),
            "KVOSHIM_CONTROLLER": str(place / "controller.sock"),
            "KVOSHIM_WARMUP": "0",
        }  # fmt: skip
        self.daemons: list[subprocess.Popen] = []

    def start(self, *arguments: str, command: str = "configd", wrapped: tuple[str, ...] = ()) -> subprocess.Popen:
        """A daemon that is ready."""
        reader, writer = os.pipe()
        words = [*wrapped, sys.executable, "-P", "-m", "kvoshim", command, "--ready-fd", str(writer), *arguments]
        daemon = subprocess.Popen(words, env=self.environment, pass_fds=(writer,), stderr=subprocess.PIPE, text=True)
        os.close(writer)
        self.daemons.append(daemon)
        with open(reader, "rb") as ready:
            if not ready.readline():
                raise AssertionError(f"{command} did not come up: {daemon.stderr.read()}")
        return daemon

    def end(self, daemon: subprocess.Popen, how: int = signal.SIGTERM) -> str:
        """Ends a daemon; what it has said on standard error."""
        self.daemons.remove(daemon)
        daemon.send_signal(how)
        return daemon.communicate(timeout=60)[1]

    def run(self, *arguments: str, command: str = "configd") -> subprocess.CompletedProcess:
        words = [sys.executable, "-P", "-m", "kvoshim", command, *arguments]
        return subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60, check=False)

    def client(self) -> Client:
        return Client(self.directory)

    def control(self, command: str, **arguments):
        with ControlClient(str(self.directory / "configd.ctl")) as control:
            return control.call(command, arguments or None)

    def close(self) -> None:
        for daemon in list(self.daemons):
            with contextlib.suppress(ProcessLookupError):
                self.end(daemon, signal.SIGKILL)
