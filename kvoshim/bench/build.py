"""Compiles the C drivers where they are used: into a cache folder, or from a source checkout into its build folder.

The drivers are shipped as sources, since what they measure depends on the machine's own compiler and C library.
"""

import hashlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "c"
PROGRAMS = ("server", "client", "floor", "calls", "crowd", "load", "pairs")
MODULE = "core_lock.so"
READ_MODULE = "store_read.so"
DIALECT = ("-std=gnu11", "-D_GNU_SOURCE")
FLAGS = (*DIALECT, "-O2", "-Wall", "-Wextra", "-pthread")
# As the preload library is compiled: calls within it, and its thread-local variable, go by no table.
CORE_FLAGS = (*DIALECT, "-O3", "-fPIC", "-fno-strict-aliasing", "-fvisibility=hidden", "-ftls-model=initial-exec")


class BuildError(Exception):
    """Something does not compile; carries the compiler's own words."""


def compiler() -> str:
    """The C compiler's name."""
    return os.environ.get("CC", "cc")


def run(command: list[str | Path]) -> None:
    """Runs a compiler. Raises BuildError."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    except FileNotFoundError:
        raise BuildError(
            f"the drivers are C programs, and there is no C compiler '{words[0]}': install one (Debian: apt-get install "
            "gcc libc6-dev) or name one in CC"
        ) from None
    if done.returncode:
        raise BuildError(f"{' '.join(words)}\n{done.stdout}{done.stderr}")


def fresh(target: Path, make: Callable[[Path], None]) -> None:
    """Makes a target that is not there.

    Never writes over a program that another run may be executing: compiles beside it, then renames.
    """
    if target.exists():
        return
    beside = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        make(beside)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def compile_program(source: Path, target: Path, *more: str) -> None:
    """One C driver."""
    run([compiler(), *FLAGS, *more, "-o", target, source])


def compile_module(checkout: Path, target: Path, name: str, sources: Iterable[Path]) -> None:
    """An extension module that times what lies inside, from kvoshim's own sources."""
    generated = target.with_name(f"{target.name}.c")
    inner = checkout / "bench" / "inner" / Path(name).with_suffix(".pyx")
    run([sys.executable, "-m", "cython", "-3", "--include-dir", checkout / "pyx", "-o", generated, inner])
    includes = [f"-I{folder}" for folder in (checkout / "pyx" / "kvoshim", sysconfig.get_path("include"))]
    try:
        run([compiler(), "-shared", *CORE_FLAGS, *includes, "-o", target, generated, *sources])
    finally:
        generated.unlink()


def digest(sources: Iterable[Path]) -> str:
    """Tells one state of the sources and of the compiler's flags from another."""
    state = hashlib.sha256(repr((compiler(), FLAGS, CORE_FLAGS, sys.version)).encode())
    for source in sorted(path for path in sources if path.is_file()):
        state.update(source.name.encode() + source.read_bytes())
    return state.hexdigest()[:16]


def cache() -> Path:
    """Where an installed package compiles: $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvoshim" / "bench"


def build(checkout: Path | None = None, output: Path | None = None) -> Path:
    """Compiles what is not there yet; each state of the sources has a folder of its own.

    checkout: kvoshim's source tree, from which the core's own module is built too. Returns the folder of the programs.
    Raises BuildError.
    """
    sources = list(SOURCES.iterdir())
    if checkout is not None:
        for part in ("bench/inner", "bench/c", "pyx/kvoshim"):
            sources += (checkout / part).iterdir()
        output = output or checkout / "build" / "bench"
    folder = (output or cache()) / digest(sources)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(f"cannot make {folder} for the compiled drivers ({error}); set XDG_CACHE_HOME") from None
    for program in PROGRAMS:
        fresh(folder / program, lambda target, name=program: compile_program(SOURCES / f"{name}.c", target))
    if checkout is not None:
        for name, parts in ((MODULE, list((checkout / "pyx" / "kvoshim").glob("*.c"))), (READ_MODULE, [])):
            fresh(folder / name, lambda target, name=name, parts=parts: compile_module(checkout, target, name, parts))
    return folder
