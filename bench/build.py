"""Compiles the C drivers into build/bench; they are no part of the package and not installed."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "bench" / "c"
OUTPUT = ROOT / "build" / "bench"
PROGRAMS = ("server", "client", "floor")
FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra")


class BuildError(Exception):
    """A driver does not compile; carries the compiler's own words."""


def build(output: Path = OUTPUT) -> Path:
    """Compiles what is older than its sources. Returns the folder of the programs. Raises BuildError."""
    output.mkdir(parents=True, exist_ok=True)
    newest = max(source.stat().st_mtime for source in SOURCES.iterdir())
    for program in PROGRAMS:
        target = output / program
        if target.exists() and target.stat().st_mtime >= newest:
            continue
        compiler = os.environ.get("CC", "cc")
        # Never write over a program that another run may be executing: compile beside it, then rename.
        fresh = target.with_name(f"{program}.{os.getpid()}")
        command = [compiler, *FLAGS, "-o", str(fresh), str(SOURCES / f"{program}.c")]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        except FileNotFoundError:
            raise BuildError(f"no C compiler '{compiler}'; install one or set CC") from None
        if done.returncode:
            raise BuildError(f"{' '.join(command)}\n{done.stderr}")
        fresh.replace(target)
    return output
