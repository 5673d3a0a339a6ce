"""Whether a socket path, a process or a program can be accelerated, and why not. Nothing here changes or starts anything.

Each examination returns findings, those that prevent acceleration first.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import stat
import struct
from dataclasses import asdict, dataclass

from kvoshim import _core, elf, launcher, statistics
from kvoshim.errors import UnknownSubjectError

BAD, NOTE, GOOD = "bad", "note", "good"
_AT_SECURE = 23
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_LISTENS, _STREAM = 0x10000, 1  # in /proc/net/unix


@dataclass(frozen=True)
class Finding:
    """level: "bad" (prevents acceleration), "note" (may matter) or "good"."""

    level: str
    text: str

    def as_dict(self) -> dict:
        return asdict(self)


def examine(subject: str, paths: str = "*") -> tuple[str, list[Finding]]:
    """(kind, findings) of a PID, a socket path ('@name': abstract) or a program; kind: "process", "path", "program".

    paths: what KVOSHIM_PATHS holds. UnknownSubjectError: it is none of these.
    """
    if subject.isdecimal():
        kind, found = "process", process(int(subject))
    elif subject.startswith("@") or (os.sep in subject and not _is_program(subject)):
        kind, found = "path", path(subject, paths)
    elif program_file := shutil.which(subject):
        kind, found = "program", program(program_file)
    elif os.path.lexists(subject):
        kind, found = "path", path(subject, paths)
    else:
        raise UnknownSubjectError(f"{subject!r} is no process, no path and no program")
    found += kernel()
    return kind, sorted(found, key=lambda finding: (BAD, NOTE, GOOD).index(finding.level))


def _is_program(name: str) -> bool:
    return os.path.isfile(name) and os.access(name, os.X_OK)


# ---- the kernel ----

def kernel() -> list[Finding]:
    """What the transport needs of this kernel."""
    try:
        fd = os.memfd_create("kvoshim-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        return [Finding(BAD, f"this kernel gives no memfd: {error.strerror}")]
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        return [Finding(BAD, f"this kernel seals no memfd: {error.strerror}")]
    finally:
        os.close(fd)
    return [Finding(GOOD, "the kernel has memfds and seals")]


# ---- a socket path ----

def path(name: str, paths: str) -> list[Finding]:
    """A socket that is there, or a path at which one is to be."""
    raw = os.fsencode(name)
    if len(raw) > 108:
        return [Finding(BAD, f"the path has {len(raw)} bytes; a socket's has at most 108")]
    found = []
    try:
        selected = _core.path_selected(paths, b"\0" + raw[1:] if name.startswith("@") else raw)
        found.append(Finding(GOOD if selected else BAD, f"KVOSHIM_PATHS ({paths}) {'selects' if selected else 'does not select'} it"))
    except ValueError as error:
        found.append(Finding(BAD, f"KVOSHIM_PATHS ({paths}) is unusable: {error}"))
    if not name.startswith("@") and not _place(name, found):
        return found
    sockets = _unix_sockets(name)
    if not sockets:
        found.append(Finding(NOTE, "nobody listens there now (or in another network namespace)"))
    elif all(kind != _STREAM for _, kind, _ in sockets):
        found.append(Finding(BAD, "its socket is not of type SOCK_STREAM: datagrams and SOCK_SEQPACKET stay on the kernel"))
    else:
        found += _listeners({inode for flags, kind, inode in sockets if kind == _STREAM and flags & _LISTENS})
    return found


def _place(name: str, found: list[Finding]) -> bool:
    """A path in the file system: False if there is no socket to look at further."""
    try:
        info = os.stat(name)
    except PermissionError:
        found.append(Finding(BAD, "a directory above it is closed to this user"))
        return False
    except OSError as error:
        parent = os.path.dirname(name) or "."
        if os.path.isdir(parent):
            found.append(Finding(NOTE, "there is no socket yet"))
        else:
            found.append(Finding(BAD, f"{parent}: {error.strerror}"))
        return False
    if not stat.S_ISSOCK(info.st_mode):
        found.append(Finding(BAD, "it is not a socket"))
        return False
    if not os.access(name, os.W_OK):
        found.append(Finding(BAD, f"this user may not connect: mode {stat.filemode(info.st_mode)}, owner {info.st_uid}"))
    return True


def _unix_sockets(name: str) -> list[tuple[int, int, str]]:
    """(flags, type, inode) of the sockets bound to a path."""
    found = []
    names = {name, os.path.realpath(name)} if not name.startswith("@") else {name}
    with open("/proc/net/unix", errors="surrogateescape") as file:
        for line in file:
            fields = line.rstrip("\n").split(maxsplit=7)
            if len(fields) == 8 and fields[7] in names:
                found.append((int(fields[3], 16), int(fields[4], 16), fields[6]))
    return found


def _listeners(inodes: set[str]) -> list[Finding]:
    """Whether the processes that hold a listening socket are under the shim."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    found = []
    for pid in sorted(int(entry) for entry in os.listdir("/proc") if entry.isdecimal()):
        if wanted.isdisjoint(_descriptors(pid)):
            continue
        reasons = [finding.text for finding in process(pid) if finding.level == BAD]
        who = f"{statistics.program(pid)} (PID {pid}) listens there"
        found.append(Finding(BAD, f"{who}: {reasons[0]}") if reasons else Finding(GOOD, f"{who}, under the shim"))
    return found or [Finding(NOTE, "a process that this user may not look at listens there")]


# ---- a program ----

def program(file: str, depth: int = 4) -> list[Finding]:
    """A program file, or a script's interpreter."""
    try:
        info = os.stat(file)
        with open(file, "rb") as opened:
            first = opened.readline(512)
        kind = elf.read(file)
    except OSError as error:
        return [Finding(BAD, f"{file}: {error.strerror}")]
    found = []
    if first.startswith(b"#!"):
        words = shlex.split(os.fsdecode(first[2:].strip()), comments=False) if depth else []
        if words and os.path.basename(words[0]) == "env":
            words = [w for w in words[1:] if not w.startswith("-") and "=" not in w]
        interpreter = shutil.which(words[0]) if words else None
        if interpreter is None:
            return [Finding(BAD, f"{file} is a script whose interpreter is not found")]
        return [Finding(GOOD, f"{file} is a script for {interpreter}"), *program(interpreter, depth - 1)]
    if kind is None:
        found.append(Finding(BAD, f"{file} is neither an ELF program nor a script with a '#!' line"))
    elif not kind.native:
        found.append(Finding(BAD, f"{file} is a {kind.bits}-bit program of another architecture than the library"))
    elif kind.go:
        found.append(Finding(BAD, f"{file} is a Go program: it makes system calls without the C library"))
    elif kind.interpreter is None:
        found.append(Finding(BAD, f"{file} is statically linked: the loader preloads nothing into it"))
    elif "ld-musl" in kind.interpreter:
        found.append(Finding(BAD, f"{file} uses musl; the library is linked to glibc"))
    else:
        found.append(Finding(GOOD, f"{file} is dynamically linked"))
    if info.st_mode & stat.S_ISUID and info.st_uid != os.getuid():
        found.append(Finding(BAD, f"{file} is setuid: the loader ignores LD_PRELOAD"))
    if info.st_mode & stat.S_ISGID and info.st_mode & stat.S_IXGRP and info.st_gid != os.getgid():
        found.append(Finding(BAD, f"{file} is setgid: the loader ignores LD_PRELOAD"))
    if os.getuid() and _has_capabilities(file):
        found.append(Finding(BAD, f"{file} has file capabilities: the loader ignores LD_PRELOAD"))
    return found


def _has_capabilities(file: str) -> bool:
    try:
        return bool(os.getxattr(file, "security.capability"))
    except OSError:
        return False


# ---- a process ----

def _descriptors(pid: int) -> set[str]:
    """What its descriptors are; empty if this user may not look."""
    found = set()
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
            except OSError:
                continue
    except OSError:
        pass
    return found


def _bytes_of(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()


def process(pid: int) -> list[Finding]:
    """A running process. UnknownSubjectError: there is none."""
    if statistics.start_ticks(pid) is None:
        raise UnknownSubjectError(f"no process has the PID {pid}")
    try:
        maps = _bytes_of(pid, "maps")
        words = _bytes_of(pid, "environ").split(b"\0")
        auxiliary = dict(struct.iter_unpack("@LL", _bytes_of(pid, "auxv")))
    except OSError:
        return [Finding(BAD, "the process belongs to another user; ask as that user or as root")]
    environment = dict(word.split(b"=", 1) for word in words if b"=" in word)
    loaded = launcher.LIBRARY.encode() in maps
    found = []
    if loaded:
        found.append(Finding(GOOD, "the preload library is in the process"))
    elif launcher.LIBRARY.encode() not in environment.get(b"LD_PRELOAD", b""):
        found += [f for f in _file_of(pid) if f.level == BAD]
        found.append(Finding(BAD, "it was started without the preload library (LD_PRELOAD): use `kvoshim run`"))
    else:
        why = [f for f in _file_of(pid) if f.level == BAD]
        if auxiliary.get(_AT_SECURE):
            why.insert(0, Finding(BAD, "it is setuid, setgid or has capabilities: the loader ignored LD_PRELOAD"))
        found += why or [Finding(BAD, "the loader could not load the preload library that LD_PRELOAD names")]
    if loaded and not (environment.get(b"KVOSHIM_PATHS") or environment.get(b"USE_TSSX")):
        found.append(Finding(BAD, "its KVOSHIM_PATHS selects nothing"))
    if "anon_inode:[io_uring]" in _descriptors(pid) or b"/liburing" in maps:
        found.append(Finding(BAD, "it uses io_uring, whose operations the library does not see"))
    elif b"/libuv" in maps and not loaded:
        found.append(Finding(NOTE, "it uses libuv, which may use io_uring; under the library it is refused rings"))
    found += _surroundings(pid)
    return found + [f for f in _counts(pid)]


def _file_of(pid: int) -> list[Finding]:
    return program(f"/proc/{pid}/exe")


def _surroundings(pid: int) -> list[Finding]:
    found = []
    for line in _bytes_of(pid, "status").decode(errors="replace").splitlines():
        if line.startswith("Seccomp:") and line.split()[1] == "1":
            found.append(Finding(BAD, "seccomp's strict mode leaves it no system call to make a segment with"))
        elif line.startswith("Seccomp:") and line.split()[1] == "2":
            found.append(Finding(NOTE, "a seccomp filter may refuse memfd_create or mmap"))
    try:
        if os.stat(f"/proc/{pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino:
            found.append(Finding(NOTE, "it is in another network namespace: only peers in the same one are found"))
    except OSError:
        pass
    return found


def _counts(pid: int) -> list[Finding]:
    for one in statistics.processes():
        if one["pid"] == pid:
            declined = ", ".join(f"{reason} {n}" for reason, n in one["refused"].items())
            return [Finding(NOTE if declined else GOOD, f"connections so far: {one['accelerated']} accelerated"
                            + (f"; declined: {declined}" if declined else ""))]
    return []
