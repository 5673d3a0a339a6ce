"""Runs the two ends of tests/faults/pair.c with a fault in one of them, and compares with the run on kernel sockets."""

from __future__ import annotations

import functools
import os
import re
import socket
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import points
import shimlib
import snippetlib

from kvoshim import _core

HERE = Path(__file__).parent
_BUILT = shimlib.ROOT / "build" / os.environ.get("SANITIZER", "") / "faults"
SCENES = re.findall(r'\{"(\w+)", s_\w+\}', (HERE / "pair.c").read_text())
ENDS = ("server", "client")


def _built(name: str, source: str, *flags: str) -> Path:
    program = _BUILT / name
    if not program.exists() or program.stat().st_mtime < (HERE / source).stat().st_mtime:
        snippetlib.built(HERE / source, program, flags)
    return program


@functools.cache
def pair() -> Path:
    return _built("pair", "pair.c", "-O1", "-Wno-format-truncation")


@functools.cache
def refuse() -> Path:
    """Starts a program that the kernel refuses something (refuse.c)."""
    return _built("refuse", "refuse.c", "-O1")


@functools.cache
def meanwhile() -> Path:
    """Two threads with one connection (meanwhile.c)."""
    return _built("meanwhile", "meanwhile.c", "-O1")


@functools.cache
def library() -> Path:
    """The library that fails calls (fault.c)."""
    return _built("fault.so", "fault.c", "-O1", "-fPIC", "-shared", "-fno-builtin")


@functools.cache
def cancelled() -> Path:
    """The program one thread of which is cancelled (cancelled.c)."""
    return _built("cancelled", "cancelled.c", "-O1")


@functools.cache
def cancelling() -> Path:
    """The library that cancels it (cancel.c)."""
    return _built("cancel.so", "cancel.c", "-O1", "-fPIC", "-shared", "-fno-builtin")


@dataclass
class End:
    """What one end did: exit status and output; with a fault also which calls were failed, and why it stayed plain."""

    status: int
    out: str
    err: str
    hits: list[str]
    refused: Counter
    logged: Counter
    accelerated: int
    log: str

    @property
    def visible(self) -> tuple[int, str, str]:
        return self.status, self.out, self.err


@functools.cache
def plain(scene: str) -> dict[str, tuple[int, str, str]]:
    """The scene on kernel sockets."""
    place = shimlib.Place()
    try:
        ends = run(place, scene, shimmed=())
    finally:
        place.remove()
    for end in ends.values():
        assert end.status == 0 and "FAILED" not in end.out and not end.err, end
    return {name: end.visible for name, end in ends.items()}


def run(place: shimlib.Place, scene: str, faults: dict[str, str] | None = None, *, shimmed=ENDS, after_exec=None,
        under: dict[str, list[str]] | None = None, timeout: float = 25, pass_fds=(), **env: str) -> dict[str, End]:
    """Both ends of a scene. faults: KVO_FAULT by end; after_exec: for what an end becomes by exec; under: a command that an
    end is started by; pass_fds: what the client inherits."""
    faults, after_exec, under = faults or {}, after_exec or {}, under or {}
    number = getattr(run, "number", 0)
    run.number = number + 1
    where = place.new_dir(f"{number:06}")
    path = str(where / "s.sock")
    started, files = {}, {}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        for name in ENDS:
            log = shimlib.Log(where / f"{name}.log")
            shim = shimlib.Shim(f"{where}/*", log) if name in shimmed else None
            more = {"KVO_FAULT_HITS": str(where / f"{name}.hits"), "STATISTICS": str(where / f"{name}.stats"), **env}
            if name in faults:
                more["KVO_FAULT"] = faults[name]
            if name in after_exec:
                more["KVO_FAULT_NEXT"] = after_exec[name]
            variables = shimlib.env_of(shim, **more)
            if shim and (name in faults or name in after_exec):
                variables["LD_PRELOAD"] += f":{library()}"
            command = [*under.get(name, []), str(pair()), name,
                       str(listener.fileno()) if name == "server" else path, scene]
            files[name] = log
            started[name] = subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                             stderr=subprocess.PIPE, text=True, start_new_session=True,
                                             pass_fds=(listener.fileno(),) if name == "server" else pass_fds)
    try:
        said = {name: process.communicate(timeout=timeout) for name, process in started.items()}
    except subprocess.TimeoutExpired:
        where_they_are = "\n".join(f"{name}:\n{shimlib.describe_group(p.pid)}" for name, p in started.items())
        for process in started.values():
            shimlib.end_group(process)
        said = {name: process.communicate() for name, process in started.items()}
        raise AssertionError(f"hangs: {scene} {faults} {after_exec}\n{where_they_are}\n{said}\n"
                             + "\n".join(log.text()[-1500:] for log in files.values())) from None
    return {name: _end(where, name, started[name].returncode, *said[name], files[name]) for name in ENDS}


def _end(where: Path, name: str, status: int, out: str, err: str, log: shimlib.Log) -> End:
    hits, stats = where / f"{name}.hits", where / f"{name}.stats"
    refused = {}
    if stats.exists() and (data := stats.read_bytes()):
        refused = _core.read_statistics(data, data)["refused"]
    return End(status, out, err, hits.read_text().splitlines() if hits.exists() else [], Counter(refused),
               Counter(log.plain_reasons()), log.accelerated(), log.text())


def run_point(place: shimlib.Place, point: points.Point, fault: dict[str, str], scene: str = "") -> dict[str, End]:
    return run(place, scene or point.scene, {} if point.successor else fault, after_exec=fault if point.successor else {})


def check(point, ends: dict[str, End], what: object) -> None:
    """The outcome that the table of points promises."""
    if point.outcome == points.SAME:
        return assert_same(point.scene, ends, what, point.differs)
    for end in ends.values():
        assert " is wrong" not in end.out and " lost " in "".join(e.log for e in ends.values()), (what, ends)


def assert_same(scene: str, ends: dict[str, End], what: object = "", differs: str = "$.") -> None:
    """Both ends have done exactly what they do on kernel sockets, but for lines that match a pattern."""
    wanted = plain(scene)
    for name, end in ends.items():
        lines, kernel = end.out.splitlines(), wanted[name][1].splitlines()
        same = len(lines) == len(kernel) and all(a == b or re.fullmatch(differs, a) for a, b in zip(lines, kernel, strict=True))
        assert same and (end.status, end.err) == (wanted[name][0], wanted[name][2]), (
            f"{scene} {what}: the {name} differs from the kernel's\n--- kernel: {wanted[name][0]} {wanted[name][2]}\n{wanted[name][1]}"
            f"--- with the fault: {end.status} {end.err}\n{end.out}--- failed calls: {ends['server'].hits} {ends['client'].hits}\n"
            f"reasons: server {dict(ends['server'].logged)} client {dict(ends['client'].logged)}")
