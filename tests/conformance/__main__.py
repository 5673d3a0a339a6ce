"""The command behind `scripts/conformance`: choose suites, run each plain and shimmed, print one line for each."""

from __future__ import annotations

import argparse
import ctypes
import fnmatch
import importlib
import os
import signal
import sys
from pathlib import Path

from conformance.compare import REPEATS, Verdict, compare
from conformance.suite import Suite, Unavailable

_PR_SET_CHILD_SUBREAPER = 36
_WIDTHS = "{:<36} {:>7} {:>8} {:>11} {:>12} {:>8}"


def registry(folder: Path | None = None) -> dict[str, Suite]:
    """All suites by name: the `SUITES` of each module in `suites/`."""
    found = {}
    for path in sorted((folder or Path(__file__).parent / "suites").glob("*.py")):
        for suite in importlib.import_module(f"conformance.suites.{path.stem}").SUITES:
            assert suite.name not in found, f"two suites are called {suite.name}"
            found[suite.name] = suite
    return found


def chosen(suites: dict[str, Suite], words: list[str]) -> list[Suite]:
    """The suites that the words name: a name, a family ("cpython") or a glob; all of them for no word.

    Raises SystemExit for a word that names none.
    """
    names = []
    for word in words or ["*"]:
        hits = [name for name in suites if fnmatch.fnmatch(name, word) or name.split("/")[0] == word]
        if not hits:
            raise SystemExit(f"no suite is called {word!r}; --list shows all")
        names += [name for name in hits if name not in names]
    return [suites[name] for name in names]


def line(verdict: Verdict) -> str:
    return _WIDTHS.format(verdict.suite.name, len(verdict.plain.passed), len(verdict.shimmed.passed),
                          len(verdict.difference), verdict.accelerated, f"{verdict.seconds:.0f} s")


def details(verdict: Verdict) -> list[str]:
    """What the line does not say: problems, the names of the tests that differ, how they did when repeated."""
    lines = [f"    ! {problem}" for problem in verdict.problems]
    for kind, tests in (("differs", verdict.difference), ("unsteady on kernel sockets too", verdict.unsteady)):
        for test in sorted(tests):
            plain, shimmed = verdict.repeated[test]
            again = f"; repeated {verdict.repeats} times: {plain} passed plain, {shimmed} shimmed" if verdict.repeats else ""
            lines.append(f"    {kind}: {test}{again}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/conformance", description=__doc__,
                                     epilog="exit status: 0 no difference, 1 a difference, 3 a suite could not be installed")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="a name, a family or a glob (default: all)")
    parser.add_argument("--list", action="store_true", help="name the suites and what they are, and run nothing")
    parser.add_argument("--repeats", type=int, default=REPEATS, metavar="N",
                        help="repeat differing tests N times each way, to find unsteady ones (default %(default)s)")
    options = parser.parse_args()
    suites = chosen(registry(), options.suites)
    if options.list:
        print("\n".join(f"{suite.name:<36} {suite.about}" for suite in suites))
        return 0
    # Whatever a suite leaves behind comes to us, and is ended.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.umask(0o022)
    # Programs must not inherit an ignored SIGINT, as a shell's background jobs do; and an ended run cleans up.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(_WIDTHS.format("suite", "plain", "shimmed", "difference", "accelerated", "time"), flush=True)
    differs, missing = 0, 0
    for suite in suites:
        try:
            suite.install()
        except Unavailable as problem:
            print(f"{suite.name:<36} NOT RUN: {problem}", flush=True)
            missing += 1
            continue
        verdict = compare(suite, options.repeats)
        differs += bool(verdict.problems)
        print("\n".join([line(verdict), *details(verdict)]), flush=True)
    print(f"{len(suites) - missing - differs} of {len(suites)} suites without difference"
          + (f", {missing} NOT RUN" if missing else ""))
    return 1 if differs else 3 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
