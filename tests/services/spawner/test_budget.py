"""Memory and CPU time of the spawner, and what broken messages do to it: nothing."""

import os
import random
import select
import socket
import struct
import time
from pathlib import Path

from spawner_harness import WAIT_S, event, sleeper, tokens, until

from kvoshim import identity
from kvoshim.services.spawner import packets, wire
from kvoshim.services.spawner.messages import Exited, Order, Spawned

RESIDENT_MAX_KIB = 1024


def status(host, name: str) -> int:
    [line] = [line for line in Path(f"/proc/{host.process.pid}/status").read_text().split("\n") if line.startswith(f"{name}:")]
    return int(line.split()[1])


def cpu_ticks(host) -> int:
    fields = Path(f"/proc/{host.process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_memory_stays_under_a_mebibyte_and_idle_is_idle(host):
    """With 1,000 children that it knows of, 2,000 descriptors kept, and the largest order there can be."""
    client = host.client()
    small = status(host, "VmRSS")
    for number in range(2000):
        client.hold(f"log-r:{number:016x} of a service with a name of a usual length", 0)
    large = {"A": "x" * (wire.MESSAGE_MAX - 200)}
    first, last = next(tokens), 0
    client.spawn(Order(token=first, program="/bin/true", args=("true",), env=large))
    for _ in range(999):
        last = next(tokens)
        client.spawn(Order(token=last, program="/bin/true", args=("true",)))
    until(lambda: sum(not one.alive for one in client.list().children.values()) == 1000, "all have run")
    full = status(host, "VmRSS")
    print(f"resident: {small} KiB at first, {full} KiB with all that; peak {status(host, 'VmHWM')} KiB")
    assert small < full < RESIDENT_MAX_KIB
    for token in client.list().children:
        client.acknowledge(token)
    client.spawn(sleeper())
    event_of(client, Spawned)
    for round_ in range(3):  # the same again finds the same places
        for _ in range(100):
            client.spawn(Order(token=next(tokens), program="/bin/true", args=("true",)))
            client.acknowledge(event_of(client, Exited).child.token)
        grown = status(host, "VmRSS")
        if round_ == 0:
            base = grown
    assert grown <= base < RESIDENT_MAX_KIB
    time.sleep(0.1)  # what it was woken for last, it has done by now
    before, switches = cpu_ticks(host), status(host, "voluntary_ctxt_switches")
    time.sleep(1)
    assert cpu_ticks(host) == before and status(host, "voluntary_ctxt_switches") == switches


def event_of(client, kind):
    while not isinstance(message := client.receive(WAIT_S), kind):
        assert message is not None
    return message


def broken(draw: random.Random) -> bytes:
    """A message with something wrong, or hardly anything right."""
    name = draw.choice(["noise", "order", "fixed", "name"])
    if name == "noise":
        return draw.randbytes(draw.choice([1, 3, 15, 16, 17, 24, 60, 500, 70000]))
    if name == "order":
        data, _ = packets.spawn(Order(token=draw.getrandbits(64) or 1, program="/none", args=("x", "y"), env={"A": "b"}, umask=7,
                                      limits=((7, 5, 5),), ids=(0, 0, (1, 2))), 1)  # fmt: skip
    elif name == "fixed":
        data = draw.choice([packets.acknowledge(draw.getrandbits(64), 2), packets.signal(draw.getrandbits(64), 9, True, 3),
                            packets.simple(wire.Type.LIST, 4)])  # fmt: skip
    else:
        data = packets.named(draw.choice([wire.Type.HOLD, wire.Type.FETCH, wire.Type.DROP]), "n" * draw.randint(1, 120), 5)
    changed = bytearray(data)
    for _ in range(draw.randint(0, 3)):
        at = draw.randrange(4, len(changed))
        if draw.random() < 0.5:
            changed[at] = draw.randrange(256)
        else:
            changed[at : at + 4] = struct.pack("<I", draw.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, len(changed)]))
    if draw.random() < 0.2:
        del changed[draw.randrange(1, len(changed)) :]
    return bytes(changed)


def push(sock: socket.socket, data: bytes, fds: list[int]) -> int:
    """Sends this and takes answers meanwhile; how many of them refuse something. Where answers find no room, nothing is taken."""
    refused = 0
    while True:
        readable, writable, _ = select.select([sock], [sock], [], WAIT_S)
        assert readable or writable, "the spawner does not go on"
        if readable:
            refused += type(packets.decode(sock.recv(wire.MESSAGE_MAX))).__name__ == "Refused"
        elif socket.send_fds(sock, [data], fds) if fds else sock.send(data):
            return refused


def test_broken_messages_do_no_harm(host):
    """Three seconds of them, with descriptors and without, from controllers that come and go."""
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    client = host.client()
    client.spawn(order := sleeper())
    child = event(client, Spawned).child
    client.hold("mine", 0)
    client.close()
    sent, refused, deadline = 0, 0, time.monotonic() + 3
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(WAIT_S)
            sock.connect(host.socket)
            sock.recv(wire.MESSAGE_MAX)
            for _ in range(draw.randint(1, 200)):
                data = broken(draw)
                if data[4:6] in (b"\x08\x00", b"\x07\x00"):  # FINISH and DROP would do what they say
                    continue
                fds = [0] * draw.choice([0, 0, 0, 1, 1, 2, 64])
                refused += push(sock, data, fds)
                sent += 1
        assert host.process.poll() is None, f"seed {seed}"
    assert sent > 200 and refused > sent // 4, (sent, refused)
    client = host.client()
    listing = client.list()
    assert listing.children[order.token] == child and identity.alive(child.pid, child.start), f"seed {seed}"
    assert "mine" in listing.held
    for token, one in listing.children.items():
        if not one.alive:
            client.acknowledge(token)
    for name in listing.held:
        client.drop(name)
    assert status(host, "VmRSS") < RESIDENT_MAX_KIB
    left = [os.readlink(f"/proc/{host.process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{host.process.pid}/fd")]
    assert len(left) < 12, f"seed {seed}: descriptors are left: {left}"
    print(f"{sent} messages, {refused} refused")
