"""scripts/instructions: counts the instructions of each operation with callgrind and compares them with their limits.

Times depend on the machine and on what else it does; these counts do not, so they can be held to a limit wherever the
tests run. They are of user space alone: a system call is one instruction.
"""

import argparse
import re
import shutil
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from kvoshim.bench.build import MODULE, SOURCES, BuildError, build, compile_program, fresh
from kvoshim.bench.costs import crowd_size
from kvoshim.bench.processes import RunError, Stage, clean_environment, installed_library, stage
from kvoshim.bench.proof import read_log

HERE = Path(__file__).resolve().parent
LIMITS = HERE / "instructions.toml"
COUNTED = HERE / "py" / "counted.py"
# Of each case: a multiple of the sixteen waits after which an epoll set asks the kernel first.
OPERATIONS = 256
CONNECTIONS = 1002  # one in no epoll set, one in a set of its own, 1,000 in the third
PASSES, BATCH = 1024, 256
WARM_UP = "0"
PATIENCE = 300
# One memcpy() on all machines: the plainest.
TUNABLES = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-ERMS,-FSRM,-AVX_Fast_Unaligned_Load"
FOREIGN = ", not ours"
TOTAL = re.compile(r"^totals: (\d+)$", re.MULTILINE)
PART = re.compile(r"^part: (\d+)$", re.MULTILINE)
TRIGGER = re.compile(r"^desc: Trigger: Client Request: (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """One operation. limit None: the file has none."""

    name: str
    counted: int
    limit: int | None

    @property
    def verdict(self) -> str:
        """In one word."""
        if self.limit is None:
            return "NO LIMIT"
        return "PASSED" if self.counted > self.limit else "ok"


def program() -> Path:
    """The driver, compiled if need be, beside the core's module. Raises BuildError: valgrind's headers may be missing."""
    target = build(HERE.parent) / "instructions"
    fresh(target, lambda beside: compile_program(HERE / "c" / "instructions.c", beside, f"-I{SOURCES}"))
    return target


def counted(run: Stage, command: list[str | Path], environment: dict[str, str], *options: str) -> dict[str, int]:
    """Instructions by case, in the order of the dumps; of a run with none, all of them under "". Raises RunError."""
    out = run.folder / "callgrind"
    words = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}", *options, *command]
    running = run.start("counted", words, environment | {"GLIBC_TUNABLES": TUNABLES}, many_files=True)
    running.wait(PATIENCE)
    dumps = sorted((file.read_text() for file in run.folder.glob("callgrind*")), key=lambda text: int(PART.search(text)[1]))
    return {(found[1] if (found := TRIGGER.search(text)) else ""): int(TOTAL.search(text)[1]) for text in dumps}


def run_driver(driver: Path, library: Path | None, connections: int) -> dict[str, float]:
    """Instructions of one call of each case, beyond those of an empty call, with the library or without it. Raises RunError if
    a connection stayed plain."""
    with stage() as run:
        path, log = run.folder / "s", run.folder / "log"
        environment = clean_environment()
        if library:
            environment |= {"LD_PRELOAD": str(library), "KVOSHIM_PATHS": str(path), "KVOSHIM_WARMUP": WARM_UP}
            environment |= {"KVOSHIM_LOG": "debug", "KVOSHIM_LOG_FILE": str(log)}
        command = [driver, path, str(OPERATIONS), str(connections)]
        counts = counted(run, command, environment, "--collect-atstart=no")
        found = read_log(log, str(path))
        if library and not found.holds(connections + 1):
            raise RunError(f"of {connections + 1} connections {found.words()} were accelerated")
    around = counts.pop("empty call")
    counts.pop("", None)
    return {name: (total - around) / OPERATIONS for name, total in counts.items()}


def run_python(what: str, passes: int, module: Path | None = None) -> int:
    """Instructions of one whole run of py/counted.py. Raises RunError."""
    with stage() as run:
        environment = clean_environment() | {"PYTHONHASHSEED": "0", "KVOSHIM_WARMUP": WARM_UP, "KVOSHIM_STATS": "off"}
        command = [sys.executable, "-P", "-B", COUNTED, what, module or run.folder / "s", str(passes)]
        return counted(run, command, environment)[""]


def run_pythons(module: Path) -> dict[str, float]:
    """Cases that only Python reaches: differences of whole runs. Raises RunError."""
    passes = BATCH * PASSES
    lock = run_python("lock", passes, module) - run_python("unlocked", passes, module)
    exchange = run_python("socket", 2 * PASSES) - run_python("socket", PASSES)
    return {"look-up, lock, unlock": lock / passes, "kvoshim.socket: send + recv 8 B": exchange / PASSES}


def count_all(library: Path) -> dict[str, int]:
    """Instructions by case; of calls that are not ours, how many more than without the library. Raises RunError, BuildError."""
    driver, connections = program(), crowd_size(CONNECTIONS)
    shimmed, plain = (run_driver(driver, used, connections) for used in (library, None))
    counts = {name: count - plain[name] if FOREIGN in name else count for name, count in shimmed.items()}
    counts["send + recv 8 B"] = counts["send 8 B"] + counts["recv 8 B"]
    counts |= run_pythons(driver.with_name(MODULE))
    return {name: round(count) for name, count in counts.items()}


def rows(counts: dict[str, int], limits: dict[str, int]) -> list[Row]:
    """All cases, in the order in which they were counted. Raises KeyError: a limit for a case that is not counted."""
    unknown = limits.keys() - counts.keys()
    if unknown:
        raise KeyError(", ".join(sorted(unknown)))
    return [Row(name, counted, limits.get(name)) for name, counted in counts.items()]


def show(found: list[Row]) -> None:
    """Prints the table."""
    width = max(len(row.name) for row in found)
    print(f"{'instructions of':{width}}  counted  limit  verdict")
    for row in found:
        limit = "-" if row.limit is None else row.limit
        print(f"{row.name:{width}}  {row.counted:7}  {limit:>5}  {row.verdict}")


def main(words: list[str]) -> int:
    """0; 1: a limit is passed or missing; 2: it can't be counted here."""
    parser = argparse.ArgumentParser(prog="scripts/instructions", description=__doc__.splitlines()[0])
    parser.add_argument("--limits", type=Path, default=LIMITS, metavar="FILE", help="instead of bench/instructions.toml")
    parser.add_argument("--library", type=Path, metavar="FILE", help="count this preload library, not the installed one")
    arguments = parser.parse_args(words)
    library = arguments.library or installed_library()
    try:
        if not shutil.which("valgrind"):
            raise RunError("valgrind is missing: scripts/install-servers valgrind")
        if not library:
            raise RunError("no preload library is installed: scripts/setup")
        found = rows(count_all(library.resolve()), tomllib.loads(arguments.limits.read_text())["limits"])
    except (RunError, BuildError) as error:
        print(f"scripts/instructions: {error}", file=sys.stderr)
        return 2
    except KeyError as error:
        print(f"{arguments.limits}: limits for what is not counted: {error.args[0]}", file=sys.stderr)
        return 2
    show(found)
    return int(any(row.verdict != "ok" for row in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
