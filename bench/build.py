"""Compiles the C drivers and the benchmark's view of the core into build/bench; no part of the package, not installed."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "bench" / "c"
INNER = ROOT / "bench" / "inner" / "core_lock.pyx"
CORE = ROOT / "pyx" / "kvoshim"
CORE_SOURCES = tuple(CORE.glob("*.c"))
OUTPUT = ROOT / "build" / "bench"
PROGRAMS = ("server", "client", "floor", "calls", "crowd")
MODULE = "core_lock.so"
DIALECT = ("-std=gnu11", "-D_GNU_SOURCE")
FLAGS = (*DIALECT, "-O2", "-Wall", "-Wextra")
# As the preload library is compiled: calls within it, and its thread-local variable, go by no table.
CORE_FLAGS = (*DIALECT, "-O3", "-fPIC", "-fno-strict-aliasing", "-fvisibility=hidden", "-ftls-model=initial-exec")


class BuildError(Exception):
    """Something does not compile; carries the compiler's own words."""


def run(command: list[str | Path]) -> None:
    """Runs a compiler. Raises BuildError."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    except FileNotFoundError:
        raise BuildError(f"no C compiler '{words[0]}'; install one or set CC") from None
    if done.returncode:
        raise BuildError(f"{' '.join(words)}\n{done.stdout}{done.stderr}")


def fresh(target: Path, sources: Iterable[Path], make: Callable[[Path], None]) -> None:
    """Makes a target that is older than one of its sources.

    Never writes over a program that another run may be executing: compiles beside it, then renames.
    """
    if target.exists() and target.stat().st_mtime >= max(source.stat().st_mtime for source in sources):
        return
    beside = target.with_name(f"{target.name}.{os.getpid()}")
    make(beside)
    beside.replace(target)


def compile_program(source: Path, target: Path) -> None:
    """One C driver."""
    run([os.environ.get("CC", "cc"), *FLAGS, "-o", target, source])


def compile_module(target: Path) -> None:
    """The extension module that times the core's look-up and lock, from the core's own sources."""
    generated = target.with_name(f"{target.name}.c")
    run([sys.executable, "-m", "cython", "-3", "--include-dir", ROOT / "pyx", "-o", generated, INNER])
    includes = [f"-I{folder}" for folder in (CORE, sysconfig.get_path("include"))]
    compiler = os.environ.get("CC", "cc")
    try:
        run([compiler, "-shared", *CORE_FLAGS, *includes, "-o", target, generated, *CORE_SOURCES])
    finally:
        generated.unlink()


def build(output: Path = OUTPUT) -> Path:
    """Compiles what is older than its sources. Returns the folder of the programs. Raises BuildError."""
    output.mkdir(parents=True, exist_ok=True)
    drivers = list(SOURCES.iterdir())
    for program in PROGRAMS:
        fresh(output / program, drivers, lambda target, name=program: compile_program(SOURCES / f"{name}.c", target))
    fresh(output / MODULE, [INNER, Path(__file__), *CORE.iterdir()], compile_module)
    return output
