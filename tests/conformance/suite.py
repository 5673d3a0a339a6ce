"""The frame of `scripts/conformance`: what an external test suite is, what one run of it says, how to run its programs.

A suite is a test suite that others wrote, for their own program or library. It is run once on kernel sockets and once under
the preload library; `compare.py` compares. A module in `suites/` lists its suites in `SUITES`; nothing else registers them.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import shimlib

#: Where suites keep what they download and build; it may be deleted at any time.
CACHE = shimlib.ROOT / "build" / "conformance"


class Unavailable(Exception):
    """This suite cannot be installed here; the message says what is missing and which package brings it."""


@dataclass
class Result:
    """One run of a suite: the names of the tests that passed and failed (skipped ones are in neither), and all output."""

    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    text: str = ""


class Suite:
    """One external suite. Subclass it, or make instances of a subclass, and list them in a module's `SUITES`.

    name: "family" or "family/part", unique. about: a line for --list. accelerates: how many connections it opens on
    Unix paths for certain, at least, so that the library must accelerate as many; 0: it opens none. limit: seconds
    after which a run is ended. complete: no test may fail on kernel sockets; otherwise a suite of others may have tests
    that do not pass here.
    """

    name: str
    about: str = ""
    accelerates: int = 1
    limit: float = 900
    complete: bool = False

    def install(self) -> None:
        """Bring what the suite needs, unless it is there. Raises Unavailable."""

    def run(self, environment: dict[str, str], directory: Path, only: set[str] | None = None) -> Result:
        """Run the tests once, in `environment`, with all files and sockets below `directory` (empty, short path; TMPDIR
        is this directory). only: names of tests; a suite that can't choose runs them all. Every test has a name that is
        the same in each run. Whatever it starts must have ended when it returns; the frame kills what has not.
        """
        raise NotImplementedError


@dataclass
class Finished:
    """How a program ended: exit status (negative: the signal; None: killed at its limit), and what it wrote."""

    status: int | None
    text: str


def execute(command: list, environment: dict[str, str], directory: Path, limit: float, *, stdin: bytes = b"",
            cwd: Path | None = None) -> Finished:
    """Run a program to its end; its standard output and error together are the text.

    After `limit` seconds its process group is killed, and the text says where in the kernel each process was. The output goes
    through a file in `directory`, since a background child may hold a pipe open for ever.
    """
    command = [str(word) for word in command]
    output = directory / f"output-{len(list(directory.glob('output-*')))}"
    given = directory / "input"
    given.write_bytes(stdin)
    with open(output, "wb") as sink, open(given, "rb") as source:
        process = subprocess.Popen(command, env=environment, cwd=cwd or directory, stdin=source, stdout=sink,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        status, note = None, ""
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            note = f"\nkilled after {limit:.0f} s: {' '.join(command)}\n{shimlib.describe_group(process.pid)}\n"
        finally:
            shimlib.end_group(process)
            process.wait()
    return Finished(status, output.read_text(errors="replace") + note)


def unittest_results(text: str) -> tuple[set[str], set[str]]:
    """The tests that passed and those that failed, from what `python -m unittest -v` wrote about modules `tests.*`."""
    passed, failed = set(), set()
    # The result may stand behind the test's output or documentation, but always comes before the next test's name.
    for name, where, said in re.findall(r"^(\w+) \((tests\.[\w.]+)\)(.*?)(?=^\w+ \(tests\.|^=====|^-----|\Z)", text, re.M | re.S):
        test = where if where.endswith("." + name) else f"{where}.{name}"
        if re.search(r"(\.\.\. |^)(ok|expected failure)$", said, re.M):
            passed.add(test)
        elif not re.search(r"(\.\.\. |^)skipped ", said, re.M):
            failed.add(test)
    return passed, failed


def end_descendants() -> None:
    """Kill every process below this one (which is a subreaper, so that it has also those whose parents ended)."""
    left = psutil.Process().children(recursive=True)
    for process in left:
        try:
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(left, timeout=10)
