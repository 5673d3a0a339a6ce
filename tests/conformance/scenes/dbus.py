"""dbus-daemon as a bus of its own, with the clients that Debian has and a service and a client in Python."""

from __future__ import annotations

import concurrent.futures
import re
import signal

from conformance.obtain import program, python_with
from conformance.scenes.scene import PROGRAMS, World, listens, wait_for

PACKAGES = {"dbus-daemon": "dbus-daemon", "dbus-send": "dbus-bin", "dbus-monitor": "dbus-bin", "gdbus": "libglib2.0-bin",
            "busctl": "systemd", "setpriv": "util-linux"}

_CONF = """<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
<limit name="max_incoming_bytes">1000000000</limit><limit name="max_outgoing_bytes">1000000000</limit>
<limit name="max_replies_per_connection">1000</limit><limit name="max_message_size">100000000</limit></busconfig>
"""
_ECHO = ("org.example.Echo", "/org/example/Echo", "org.example.Echo")


def _python():
    return python_with("dbus-next-scene", "dbus-next==0.2.3")


def install() -> None:
    _python()


class Bus:
    """A bus that is asked by commands."""

    def __init__(self, world: World, address: str):
        self.world, self.address = world, address

    def ask(self, *words: object, stdin: bytes | None = None):
        return self.world.ask([program(str(words[0])), *words[1:]], stdin=stdin, DBUS_SESSION_BUS_ADDRESS=self.address)

    def step(self, *words: object) -> None:
        done = self.ask(*words)
        # Serial numbers, times and the bus's own numbers of connections depend on what came before.
        out = re.sub(rb":1\.\d+|time=\S+|(reply_)?serial=\d+|uint32 \d{3,}|PID=?\d+", b"#", done.out + done.err)
        words = [str(w) for w in words if self.address not in str(w) and not str(w).startswith("--") and "/" not in str(w)]
        self.world.step(" ".join(words)[:70], (done.status, out))


def _commands(bus: Bus) -> None:
    name, path, interface = _ECHO
    send = ("dbus-send", f"--bus={bus.address}", "--print-reply", "--reply-timeout=20000")
    daemon = ("--dest=org.freedesktop.DBus", "/org/freedesktop/DBus")
    for words in (("org.freedesktop.DBus.NameHasOwner", f"string:{name}"), ("org.freedesktop.DBus.ListActivatableNames",),
                  ("org.freedesktop.DBus.GetConnectionUnixUser", f"string:{name}"), ("org.freedesktop.DBus.Nothing",)):
        bus.step(*send, *daemon, *words)
    for text in ("one", "a b c", "x" * 50_000):
        bus.step(*send, f"--dest={name}", path, f"{interface}.Say", f"string:{text}")
    bus.step(*send, "--dest=org.example.Nobody", path, f"{interface}.Say", "string:x")
    gdbus = ("gdbus", "call", "--address", bus.address, "--dest", name, "--object-path", path, "--method")
    for words in (("Say", "'by gdbus'"), ("Bytes", "100000"), ("Digest", "[byte 1, 2, 3]"), ("Nothing",)):
        bus.step(*gdbus[:-1], "--method", f"{interface}.{words[0]}", *words[1:])
    bus.step("gdbus", "introspect", "--address", bus.address, "--dest", name, "--object-path", path)
    busctl = ("busctl", f"--address={bus.address}", "--no-pager")
    for words in (("call", name, path, interface, "Say", "s", "by busctl"), ("introspect", "--no-legend", name, path),
                  ("tree", name), ("call", name, path, interface, "Nothing"),
                  ("call", name, path, interface, "Bytes", "u", "50000"),
                  ("--json=short", "call", name, path, interface, "Digest", "ay", "3", "1", "2", "3")):
        bus.step(*busctl, *words)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda i: bus.ask(*send[:3], f"--dest={name}", path, f"{interface}.Say", f"string:{i}").out
                                .splitlines()[-1], range(24)))
    bus.world.step("many at once", answers)


def _watch(world: World, bus: Bus) -> None:
    """A monitor that is killed while signals come; the bus and the others go on."""
    name, path, interface = _ECHO
    for _ in range(2):
        with world.stay([program("dbus-monitor"), "--address", bus.address, f"interface='{interface}'"],
                        stop_signal=signal.SIGKILL) as monitor:
            monitor.wait_until(lambda: b"NameAcquired" in monitor.output.read_bytes())
            bus.step("gdbus", "call", "--address", bus.address, "--dest", name, "--object-path", path, "--method",
                     f"{interface}.Shout", "100")
            wait_for("the signals", lambda: monitor.output.read_bytes().count(b"member=Shouted") == 100)
        numbers = re.findall(r"member=Shouted\n   uint32 (\d+)", monitor.output.read_text())
        world.step("a monitor saw all signals in order", numbers == [str(i) for i in range(100)])
        monitor.output.write_text("")
        bus.step("dbus-send", f"--bus={bus.address}", "--print-reply", f"--dest={name}", path, f"{interface}.Say", "string:on")


def dbus(world: World) -> None:
    """dbus-daemon with dbus-send, dbus-monitor, gdbus, busctl, and a service and a client in Python."""
    path = world.new_dir("d") / "bus"
    conf = world / "bus.conf"
    conf.write_text(_CONF.format(path=path))
    address = f"unix:path={path}"
    with world.serve([program("dbus-daemon"), f"--config-file={conf}", "--nofork"]) as server:
        server.wait_until(lambda: listens(path))
        bus = Bus(world, address)
        with world.stay([_python(), PROGRAMS / "dbus_service.py"], DBUS_SESSION_BUS_ADDRESS=address) as service:
            service.wait_until(lambda: b"true" in bus.ask("gdbus", "call", "--address", address, "--dest", "org.freedesktop.DBus",
                               "--object-path", "/", "--method", "org.freedesktop.DBus.NameHasOwner", _ECHO[0]).out)
            _commands(bus)
            _watch(world, bus)
            done = world.ask([_python(), PROGRAMS / "dbus_client.py"], DBUS_SESSION_BUS_ADDRESS=address).check()
            for line in done.out.decode().splitlines():
                world.step("dbus-next", line)
            bus.step("gdbus", "call", "--address", address, "--dest", _ECHO[0], "--object-path", _ECHO[1], "--method",
                     f"{_ECHO[2]}.End")
            world.step("service ended with", service.wait())
        with world.stay([program("dbus-monitor"), "--address", address]) as left:
            left.wait_until(lambda: b"NameAcquired" in left.output.read_bytes())
            server.process.terminate()
            world.step("bus ended with", server.wait())
            world.step("a client without its bus", left.wait())
        left.output.write_text("")
    # All but gdbus, whose first byte brings its credentials along.
    world.opened(path, 65, "client")


SCENES = [(dbus, 65, True)]
