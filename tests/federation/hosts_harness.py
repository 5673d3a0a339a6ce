"""Hosts as network namespaces with host names of their own, and one home directory that they share. Not a test module."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest
from registry_harness import Stage, until

from kvoshim.registry.seat import portfile

_ENTER = 'hostname "$0" && exec "$@"'


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=30)


class Host(Stage):
    """A host: what is started here runs in its namespaces. lease: seconds, of its registry."""

    def __init__(self, world: World, name: str, number: int, home: Path, clock: int = 0) -> None:
        self.name = name
        self.address = f"10.77.0.{number}"
        self.directory = world.directory / name
        self.home = home
        self.run = self.directory / "run"
        self.run.mkdir(0o700, parents=True)
        self.log = self.directory / "log"
        self.log.touch()
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(self.run),
            "KVOSHIM_REGISTRY_CONFIG": str(self.directory / "registry.json"),
            "KVOSHIM_LOG_FILE": str(self.log),
            "KVOSHIM_LOG": "debug",
            "PYTHONWARNINGS": "error",
        }
        self.environment.pop("KVOSHIM_REGISTRY", None)
        self.peers = []
        self.daemons = []
        self._namespace = f"{world.prefix}-{name}"
        self._hub = world.hub
        self._veth = f"{world.prefix}-{number}"
        run("ip", "netns", "add", self._namespace)
        run("ip", "link", "add", self._veth, "netns", self._hub, "type", "veth", "peer", "name", "eth0", "netns", self._namespace)
        run("ip", "-n", self._hub, "link", "set", self._veth, "master", "br0", "up")
        run("ip", "-n", self._namespace, "address", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            run("ip", "-n", self._namespace, "link", "set", device, "up")
        clocks = ["--time", "--monotonic", str(clock), "--boottime", str(clock)] if clock else []
        self.prefix = ["ip", "netns", "exec", self._namespace, "unshare", "--uts", *clocks, "sh", "-c", _ENTER, name]
        if clock:  # a time namespace is entered by children only
            self.prefix[self.prefix.index("sh") : self.prefix.index("sh")] = ["--fork", "--kill-child"]

    def up(self, lease: int = 3, poll: float = 0.1, options=(), **hosts) -> subprocess.Popen:
        """Starts its registry."""
        config = self.configure(hosts={"lease-s": lease, "poll-s": poll, **hosts})
        return self.serve("--config", str(config), *options)

    def link(self, state: str) -> None:
        """The cable: "up" or "down"."""
        run("ip", "-n", self._hub, "link", "set", self._veth, state)

    @property
    def port_file(self) -> Path:
        return self.home / ".kvoshim" / "registry" / self.name

    def record(self) -> portfile.Record | None:
        return portfile.read(str(self.port_file), os.geteuid()).record

    def status(self) -> dict:
        return self.ask("status-get")["hosts"]

    def knows(self, *others: Host) -> bool:
        """Whether all that is registered here has been told to the others' servers, and they are heard here."""
        status = self.status()
        return all(status["links"].get(other.name) == "" and status["hosts"].get(other.name) == "here" for other in others)

    def processes(self) -> list[psutil.Process]:
        """All that runs here."""
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.environ().get("KVOSHIM_REGISTRY_CONFIG") == self.environment["KVOSHIM_REGISTRY_CONFIG"]
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
            except psutil.Error:
                pass
        return found

    def kill(self) -> None:
        """As when its power fails: nobody gets a last packet."""
        self.link("down")
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        until(lambda: not self.processes())
        for peer in self.peers:
            peer.close()
        for daemon in self.daemons:
            daemon.wait()
            daemon.stderr.close()
        self.peers.clear()
        self.daemons.clear()

    def close(self) -> None:
        try:
            for peer in self.peers:
                peer.close()
        finally:
            for process in self.daemons:
                if process.poll() is None:
                    process.terminate()
            for pid in self.registry_pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            for process in self.daemons:
                process.wait(60)
                process.stderr.close()
            until(lambda: not self.processes(), f"all ends on {self.name}")
            run("ip", "netns", "del", self._namespace)


class World:
    """The network between hosts, and the home directory that they share."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="kvo-hosts-", dir="/tmp"))
        self.directory.chmod(0o755)
        self.home = self.new_home("home")
        self.prefix = f"kvo{os.getpid()}"
        self.hub = f"{self.prefix}-hub"
        self.hosts: list[Host] = []
        run("ip", "netns", "add", self.hub)
        run("ip", "-n", self.hub, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.hub, "address", "add", "10.77.0.254/24", "dev", "br0")
        for device in ("lo", "br0"):
            run("ip", "-n", self.hub, "link", "set", device, "up")

    def new_home(self, name: str) -> Path:
        home = self.directory / name
        home.mkdir(0o700)
        return home

    def host(self, name: str, home: Path | None = None, clock: int = 0) -> Host:
        host = Host(self, name, len(self.hosts) + 1, home or self.home, clock)
        self.hosts.append(host)
        return host

    def two(self, lease: int = 3) -> tuple[Host, Host]:
        """Two hosts whose registries know each other."""
        hosts = self.host("alpha"), self.host("beta")
        for host in hosts:
            host.up(lease)
        self.meet(*hosts)
        return hosts

    def meet(self, *hosts: Host) -> None:
        until(lambda: all(host.knows(*(one for one in hosts if one is not host)) for host in hosts), "the hosts know each other")

    def close(self) -> None:
        try:
            for host in self.hosts:
                host.close()
        finally:
            run("ip", "netns", "del", self.hub)
            shutil.rmtree(self.directory)


@pytest.fixture
def world(nothing_left):
    made = World()
    yield made
    made.close()


def names(peer, pattern: str = "*") -> list[tuple[str, str]]:
    """(name, host) of what a peer finds."""
    return [(entry["name"], entry["host"]) for entry in peer.do("find", pattern)]
