"""Who may write what is enforced by the kernel: a receiver of a store or of the table can only read it."""

import mmap
import os
import subprocess
import sys

import pytest
from kvoshim._bell import Bell, Sleeper
from kvoshim._store import Reader, Writer
from kvoshim._table import Table, TableWriter

from kvoshim.errors import CorruptStoreError

# Everything that a receiver could try; prints what each attempt came to.
_ATTACK = """
import ctypes, mmap, os, sys
fd = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

def attempt(what, call):
    try:
        call()
        print(what, "SUCCEEDED")
    except (OSError, ValueError) as error:
        print(what, type(error).__name__)

def mprotect():
    address = libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    assert address != ctypes.c_void_p(-1).value
    if libc.mprotect(address, 4096, mmap.PROT_READ | mmap.PROT_WRITE) < 0:
        raise OSError(ctypes.get_errno(), "mprotect")

def reopened():
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    try:
        mmap.mmap(again, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        os.close(again)

attempt("mmap", lambda: mmap.mmap(fd, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE))
attempt("mprotect", mprotect)
attempt("write", lambda: os.pwrite(fd, b"x", 0))
attempt("shrink", lambda: os.ftruncate(fd, 0))
attempt("grow", lambda: os.ftruncate(fd, 1 << 40))
attempt("punch", lambda: (_ for _ in ()).throw(OSError("punch"))
        if libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(4096)) < 0 else None)
attempt("reopen", reopened)
attempt("unseal", lambda: __import__("fcntl").fcntl(fd, 1033, 0x10))
mmap.mmap(fd, 4096, prot=mmap.PROT_READ)
print("read ok")
"""


@pytest.fixture(params=["store", "table", "bell"])
def memory(request):
    if request.param == "store":
        writer = Writer("sealed", capacity=1 << 16)
        writer.set("k", "value")
        yield writer.fd
        writer.close()
    elif request.param == "bell":
        sleeper = Sleeper()
        yield sleeper.fd
        del sleeper
    else:
        table = TableWriter(bytes(16), 4, 4)
        yield table.fd
        del table


def test_a_receiver_can_read_and_nothing_else(memory):
    with open(f"/proc/self/fd/{memory}", "rb") as before:
        content = before.read(8192)
    done = subprocess.run(
        [sys.executable, "-c", _ATTACK, str(memory)],
        pass_fds=[memory],
        text=True,
        capture_output=True,
        timeout=30,
        check=True,
    )
    results = dict(line.split() for line in done.stdout.splitlines())
    assert results.pop("read") == "ok"
    assert set(results) == {"mmap", "mprotect", "write", "shrink", "grow", "punch", "reopen", "unseal"}
    assert set(results.values()) == {"PermissionError"} or results["punch"] == "OSError", results
    assert "SUCCEEDED" not in results.values()
    with open(f"/proc/self/fd/{memory}", "rb") as after:
        assert after.read(8192) == content


def test_the_owner_has_no_second_way_to_write_either(memory):
    with pytest.raises(PermissionError):
        mmap.mmap(memory, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    with pytest.raises(PermissionError):
        os.pwrite(memory, b"x", 0)


@pytest.mark.parametrize("opener", [Reader, Table, lambda fd: Bell(fd, fd)])
def test_memory_that_is_not_sealed_or_too_small_is_not_mapped(opener):
    """It could be changed or cut off under the reader's feet."""
    import fcntl

    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, 1 << 20)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        with pytest.raises(CorruptStoreError, match="no sealed shared memory"):
            opener(fd)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0x10 | fcntl.F_SEAL_SEAL)
        with pytest.raises(CorruptStoreError, match="layout|too large"):
            opener(fd)
    finally:
        os.close(fd)
    small = os.memfd_create("y", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    try:
        fcntl.fcntl(
            small, fcntl.F_ADD_SEALS, 0x10 | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        )
        with pytest.raises(CorruptStoreError, match="too small"):
            opener(small)
    finally:
        os.close(small)


def test_new_memory_is_zero_and_costs_nothing_until_used():
    writer = Writer("sparse", max_keys=65536, capacity=1 << 30)
    used = os.fstat(writer.fd).st_blocks * 512
    assert os.fstat(writer.fd).st_size > 1 << 30 and used <= 64 << 10
    with mmap.mmap(writer.fd, 1 << 16, prot=mmap.PROT_READ, offset=1 << 20) as memory:
        assert not any(memory[:])
    writer.close()
