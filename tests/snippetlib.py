"""The C and Python programs in tests/preload/snippets: compile them, run them, compare them.

A C snippet may begin with directives: `// flags: …` (for the compiler), `// modes: process thread` (whether its client is a process,
a thread, or both in turn; default: both), `// accelerated: N` (how many connections it opens on the selected path, all
of which the library must accelerate when they are warmed up; `N+`: at least so many; `any`: no statement, because what
it does may keep a connection on the kernel) and `// paths: GLOBS`.

A C file with a table of scenes (lines `SCENE(x),` or `ALONE(x),`) is one snippet for each, named FILE:SCENE; its line may
overrule the file's directives: `SCENE(x), // modes: process; accelerated: any`.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import shimlib

SOURCES = shimlib.ROOT / "tests" / "preload" / "snippets"
_BUILT = shimlib.ROOT / "build" / os.environ.get("SANITIZER", "")


@dataclass(frozen=True)
class Directives:
    flags: tuple[str, ...]
    modes: tuple[str, ...]
    accelerated: str
    paths: str | None


_SCENE = re.compile(r"^ *(?:SCENE|ALONE)\((\w+)\),(?: *// *(.*))?$", re.M)


def scenes(file: Path) -> dict[str, str]:
    """The scenes of a C file, each with its own directives; empty if it is one snippet as a whole."""
    return {m[1]: m[2] or "" for m in _SCENE.finditer(file.read_text())}


def directives(name: str) -> Directives:
    """What the snippet NAME says of itself."""
    file, scene = source(name), name.partition(":")[2]
    found = dict(re.findall(r"^(?://|#) (flags|modes|accelerated|paths): (.*)$", file.read_text(), re.M))
    if scene:
        found |= dict(re.findall(r"(modes|accelerated|paths): ([^;]*)", scenes(file)[scene]))
    unknown = set(found.get("modes", "").split()) - {"process", "thread"}
    assert not unknown, f"{name}: unknown mode {unknown}"
    return Directives(tuple(found.get("flags", "-O1").split()), tuple(found.get("modes", "process thread").split()),
                      found.get("accelerated", "1").strip(), found.get("paths"))


def built(source: Path, program: Path, flags: tuple[str, ...] = ("-O1",)) -> Path:
    """Compile a C program that may be run by others meanwhile; its path."""
    program.parent.mkdir(parents=True, exist_ok=True)
    scratch = program.with_suffix(f".{os.getpid()}")
    # The snippets pass impossible arguments on purpose, and know why they drop some results.
    quiet = ["-Wno-unused-result", "-Wno-stringop-overflow", "-Wno-stringop-overread", "-Wno-nonnull"]
    done = subprocess.run([os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-g", "-Wall", "-Werror", *quiet,
                           *flags, "-pthread", str(source), "-o", str(scratch)], capture_output=True, text=True)
    assert done.returncode == 0, f"{source} does not compile:\n{done.stderr}"
    scratch.rename(program)
    return program


def compiled(name: str, folder: str = "snippets") -> Path:
    """Compile tests/preload/FOLDER/NAME.c unless that is done already; the program's path."""
    source, program = SOURCES.parent / folder / f"{name}.c", _BUILT / folder / name
    newest = max(source.stat().st_mtime, (SOURCES / "snippet.h").stat().st_mtime)
    if not program.exists() or program.stat().st_mtime < newest:
        built(source, program, directives(name).flags if folder == "snippets" else ("-O1",))
    return program


def command(name: str) -> list[str]:
    """How to start the snippet NAME: the compiled program (with its scene), or this interpreter with the script."""
    file, _, scene = name.partition(":")
    script = SOURCES / f"{file}.py"
    return [sys.executable, str(script)] if script.exists() else [str(compiled(file)), *([scene] if scene else [])]


def source(name: str) -> Path:
    file = name.partition(":")[0]
    script = SOURCES / f"{file}.py"
    return script if script.exists() else SOURCES / f"{file}.c"


def names(suffix: str) -> list[str]:
    """All snippets, ".c" or ".py"."""
    return sorted(f"{p.stem}:{scene}" if scene else p.stem
                  for p in SOURCES.glob(f"*{suffix}") for scene in scenes(p) or [""])


def run_both(place: shimlib.Place, name: str, *, timeout: float = 25, **env: str
             ) -> tuple[shimlib.Result, shimlib.Result, shimlib.Shim]:
    """Run a snippet on kernel sockets and, at the same time, under the library: both results and the library's log."""
    shim = place.shim(directives(name).paths)
    start = command(name)

    def run(kind: str) -> shimlib.Result:
        where = place.new_dir(kind)  # the same length of path both times, since some programs print lengths
        return shimlib.run(start, shim if kind == "shims" else None, timeout=timeout, cwd=where,
                           SNIPPET_PATH=str(where / "s.sock"), **env)

    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        plain = beside.submit(run, "plain")
        shimmed = run("shims")
        return plain.result(), shimmed, shim


def assert_same(plain: shimlib.Result, shimmed: shimlib.Result, shim: shimlib.Shim) -> None:
    """Both runs must have printed and ended the same; the message shows the lines that differ."""
    assert plain.status in (0, shimmed.status), f"the snippet itself fails on kernel sockets: {plain}"
    assert b"FAILED" not in plain.out, f"the snippet itself fails on kernel sockets:\n{plain.out.decode()}"
    if (plain.out, plain.status) != (shimmed.out, shimmed.status):
        import difflib

        diff = difflib.unified_diff(plain.out.decode(errors="replace").splitlines(),
                                    shimmed.out.decode(errors="replace").splitlines(), "kernel", "shimmed", lineterm="", n=2)
        text = "\n".join(diff)[:6000]
        raise AssertionError(f"differs from the kernel (exit status {plain.status} and {shimmed.status}):\n{text}\n"
                             f"stderr: {shimmed.err.decode(errors='replace')[-1000:]}\nlog:\n{shim.log.text()[-3000:]}")


def assert_accelerated(wanted: str, shim: shimlib.Shim) -> None:
    """The library must have accelerated as many connections as the snippet says, on each side."""
    if wanted == "any":
        return
    for side in ("client", "server"):
        count = shim.log.accelerated(side)
        enough = count >= int(wanted[:-1]) if wanted.endswith("+") else count == int(wanted)
        assert enough, f"{count} accelerated connections on the {side} side, expected {wanted}; log:\n{shim.log.text()[-4000:]}"
