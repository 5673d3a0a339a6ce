"""What a hostile process could try against Key-Value Observation. Not a test module: a peer of kvo_harness.py runs these as
another user, and reports for each attempt the error's name, or what it got hold of."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import random
import signal
import socket

from kvoshim._bell import Sleeper
from kvoshim._store import Reader, crc32c

from kvoshim.kvo import paths, wire
from kvoshim.kvo.link import Link

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_PTRACE_ATTACH = 16


def attempts(**calls) -> dict[str, str]:
    """What each came to: the error's name, or SUCCEEDED."""
    results = {}
    for name, call in calls.items():
        try:
            call()
            results[name] = "SUCCEEDED"
        except Exception as error:
            results[name] = type(error).__name__
    return results


def _call(function, *arguments):
    if function(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _ask(link: Link, message: wire.Message):
    link.send(message)
    return link.receive(30)[0]


def _descriptor(path: str, name: str) -> int:
    link = Link(path)
    try:
        return link.channel.take(_ask(link, wire.Open(1, name, False)).info.ticket)
    finally:
        link.close()


# --- memory ---------------------------------------------


def write_to_store(path: str, name: str) -> dict:
    """With the descriptor that an admitted observer has been given, in every way that there is."""
    fd = _descriptor(path, name)

    def protect():
        address = _libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        assert address != ctypes.c_void_p(-1).value
        _call(_libc.mprotect, address, 4096, mmap.PROT_READ | mmap.PROT_WRITE)

    def reopen():
        again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
        try:
            mmap.mmap(again, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        finally:
            os.close(again)

    try:
        results = attempts(
            map=lambda: mmap.mmap(fd, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE),
            protect=protect,
            write=lambda: os.pwrite(fd, b"x", 0),
            shrink=lambda: os.ftruncate(fd, 0),
            grow=lambda: os.ftruncate(fd, 1 << 50),
            punch=lambda: _call(_libc.fallocate, fd, 3, ctypes.c_long(0), ctypes.c_long(4096)),
            reopen=reopen,
            unseal=lambda: fcntl.fcntl(fd, 1033, 0x10),
        )
        reader = Reader(fd)
        results["value"] = reader.get("rpm")
        reader.close()
        return results
    finally:
        os.close(fd)


def table(path: str) -> list:
    """What the registration table that this client was given says of others."""
    link = Link(path)
    try:
        return link.table.rows()
    finally:
        link.close()


# --- what policy denies ---------------------------------------------


def open_store(path: str, target) -> str:
    link = Link(path)
    try:
        answer = _ask(link, wire.Open(1, target, True))
        return answer.text if isinstance(answer, wire.Failed) else repr(answer)
    finally:
        link.close()


def hand_in_a_bell(path: str) -> str:
    """Asks to be rung by observables."""
    link, sleeper = Link(path), Sleeper()
    try:
        link.send_with_descriptor(lambda ticket: wire.Listen(1, ticket), sleeper.fd)
        answer = link.receive(10)[0]
        return getattr(answer, "text", repr(answer))
    finally:
        link.close()


def take_what_was_not_given(path: str, name: str) -> dict:
    """Descriptors that no message has announced."""
    link = Link(path)
    try:
        link.channel.sock.settimeout(0.2)
        for message in (wire.Open(1, name, True), wire.Observe(2, 1, name, None, True, 0, b"", 0), wire.Claim(3, name, b"")):
            assert isinstance(_ask(link, message), wire.Failed), message
        return attempts(**{f"ticket{ticket}": lambda ticket=ticket: link.channel.take(ticket) for ticket in range(4)})
    finally:
        link.close()


# --- other processes ---------------------------------------------


def into_process(pid: int) -> dict:
    """Another user's process, from outside."""
    buffer = ctypes.create_string_buffer(8)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)

    def copy_descriptor():
        pidfd = os.pidfd_open(pid)
        try:
            for number in range(3, 40):
                _call(_libc.syscall, 438, pidfd, number, 0)  # pidfd_getfd
        finally:
            os.close(pidfd)

    return attempts(
        trace=lambda: _call(_libc.ptrace, _PTRACE_ATTACH, pid, None, None),
        memory=lambda: open(f"/proc/{pid}/mem", "r+b").close(),
        read=lambda: _call(_libc.process_vm_readv, pid, vector, 1, vector, 1, 0),
        write=lambda: _call(_libc.process_vm_writev, pid, vector, 1, vector, 1, 0),
        descriptors=lambda: os.listdir(f"/proc/{pid}/fd"),
        maps=lambda: os.listdir(f"/proc/{pid}/map_files"),
        copy_descriptor=copy_descriptor,
        kill=lambda: os.kill(pid, signal.SIGKILL),
    )


# --- the controller's place, its voice ---------------------------------------------


def take_the_place(path: str) -> dict:
    """Of the controller, at its sockets."""
    def bind(where: str) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(where)

    files = {"socket": path, "channel": paths.channel_path(path), "control": paths.control_path(path)}
    results = {}
    for what, file in files.items():
        done = attempts(
            bind=lambda file=file: bind(file),
            remove=lambda file=file: os.unlink(file),
            rename=lambda file=file: os.rename(file, file + ".away"),
            replace=lambda file=file: os.symlink("/tmp", file + ".new"),
        )
        results.update({f"{what}-{name}": result for name, result in done.items()})
    results.update(attempts(
        command=lambda: socket.socket(socket.AF_UNIX).connect(files["control"]),
        lock=lambda: open(paths.life_lock(path)),
        start=lambda: open(paths.start_lock(path), "w"),
    ))
    return results


def speak_as_the_controller(path: str) -> dict:
    """Sends its own messages to it, and shows a token that is none of ours."""
    def say(message: wire.Message) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            sock.connect(path)
            sock.sendall(wire.frame(wire.Hello(wire.VERSION, "forger")) + wire.frame(message))
            while sock.recv(65536):
                pass
            raise ConnectionAbortedError

    def show(token: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(30)
            sock.connect(paths.channel_path(path))
            sock.send(token)
            if not sock.recv(64):
                raise ConnectionAbortedError

    return attempts(
        notify=lambda: say(wire.Notify([(1, 0, 1 << 40)])),
        gone=lambda: say(wire.Gone("engine", bytes(16), True)),
        token=lambda: show(os.urandom(16)),
    )


def speak_to_processes(pids: list[int]) -> dict:
    """Sends notifications to every abstract socket that listens; those of our processes are among them."""
    with open("/proc/net/unix") as listed:
        names = [line.split()[7] for line in listed if " @kvo2" in line]
    reached = 0
    for name in names:
        for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            with socket.socket(socket.AF_UNIX, kind) as sock:
                sock.setblocking(False)
                try:
                    sock.connect("\0" + name[1:])
                    memory = os.memfd_create("offer", os.MFD_ALLOW_SEALING)
                    os.ftruncate(memory, 1 << 20)
                    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
                    try:
                        socket.send_fds(sock, [wire.frame(wire.Notify([(1, 0, 1 << 40)]))], [memory])
                    finally:
                        os.close(memory)
                    reached += 1
                except OSError:
                    continue
    return {"sockets": len(names), "reached": reached}


def connect_until_refused(path: str) -> str:
    while True:
        Link(path).close()


# --- one's own store ---------------------------------------------


KEYS = 64  # of the store that is spoiled: its max_keys


def _store() -> tuple[int, int]:
    """Where this process has its store mapped for writing, and its size."""
    with open("/proc/self/maps") as maps:
        (line,) = [line for line in maps if "kvoshim-store" in line and "rw-s" in line]
    start, end = (int(text, 16) for text in line.split()[0].split("-"))
    return start, end - start


def poke(offset: int, data: str) -> None:
    """Writes over one's own store what no owner would. data: in hexadecimal digits."""
    start, _ = _store()
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(start + offset)
        memory.write(bytes.fromhex(data))


def claim_revision(slot: int, revision: int, value: str) -> None:
    """Gives both records of a slot, and the store, a revision; with checksums that are right."""
    data = value.encode()
    for record in (slot_at(slot) + 64, slot_at(slot) + 192):
        fields = revision.to_bytes(8, "little") + bytes(24) + len(data).to_bytes(4, "little")
        flags = (7).to_bytes(4, "little")  # str
        crc = crc32c(fields + flags + data).to_bytes(4, "little")
        poke(record, (fields + crc + flags + bytes(4) + data).hex())
    poke(640, revision.to_bytes(8, "little").hex())


def slot_at(number: int) -> int:
    return 4096 + 256 * KEYS + 320 * number


def scribble(seed: int, turns: int, areas: list[list[int]]) -> None:
    """Random bytes at random places of these areas [offset, length], numbers that look sensible among them."""
    dice = random.Random(seed)
    start, size = _store()
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        for _ in range(turns):
            offset, length = dice.choice(areas)
            at = min(offset + dice.randrange(length) // 4 * 4, size - 64)
            number = dice.choice([0, 1, 2, 63, 64, 255, 4096, 1 << 31, 1 << 62, (1 << 64) - 1, dice.randrange(1 << 64)])
            memory.seek(start + at)
            memory.write(dice.choice([number.to_bytes(8, "little"), dice.randbytes(dice.randrange(1, 64)), bytes(64)]))
