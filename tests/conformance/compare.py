"""Runs a suite plain and shimmed, and says what the difference is."""

from __future__ import annotations

import collections
import time
from dataclasses import dataclass, field

import shimlib
from conformance.suite import CACHE, Result, Suite, end_descendants

#: How often the tests that differ are repeated, plain and shimmed, to tell an unsteady test from a difference.
REPEATS = 5


@dataclass
class Verdict:
    """What two runs of one suite showed. Differing tests passed plain and not shimmed; unsteady ones among them also
    failed plain when they were repeated. accelerated: connections, as their clients counted them. stayed_plain: reason
    -> number. repeated: test -> how often it passed in `repeats` further (plain, shimmed) runs."""

    suite: Suite
    plain: Result
    shimmed: Result
    accelerated: int
    stayed_plain: dict[str, int]
    seconds: float = 0
    repeats: int = 0
    repeated: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def lost(self) -> set[str]:
        return self.plain.passed - self.shimmed.passed

    @property
    def unsteady(self) -> set[str]:
        return {test for test, (plain, _) in self.repeated.items() if plain < self.repeats}

    @property
    def difference(self) -> set[str]:
        return self.lost - self.unsteady

    @property
    def problems(self) -> list[str]:
        """Why the suite has not passed, a sentence each; empty: it has."""
        found = []
        if not self.plain.passed:
            found.append("no test passes on kernel sockets")
        if self.suite.complete and self.plain.failed:
            found.append(f"fails on kernel sockets: {', '.join(sorted(self.plain.failed))}")
        if self.accelerated < self.suite.accelerates:
            found.append(f"only {self.accelerated} connections accelerated, of at least {self.suite.accelerates} "
                         f"(stayed plain: {self.stayed_plain or 'none'})")
        if self.difference:
            found.append(f"{len(self.difference)} tests pass on kernel sockets only")
        return found


def _run(suite: Suite, kind: str, place: shimlib.Place, count: int, only: set[str] | None = None
         ) -> tuple[Result, shimlib.Log | None]:
    """One run. The directories of all runs have paths of the same length, since some programs print lengths."""
    directory = place.new_dir(f"{kind[0]}{count}")
    directory.chmod(0o777)
    shim = place.shim("*") if kind == "shimmed" else None
    environment = shimlib.env_of(shim, TMPDIR=str(directory))
    try:
        result = suite.run(environment, directory, only)
    finally:
        end_descendants()
    keep = CACHE / "results" / suite.name
    keep.mkdir(parents=True, exist_ok=True)
    name = f"{kind}{count or ''}"
    (keep / f"{name}.txt").write_text(result.text)
    if shim:
        (keep / f"{name}.log").write_text(shim.log.text())
    return result, shim.log if shim else None


def compare(suite: Suite, repeats: int = REPEATS) -> Verdict:
    """Run an installed suite once plain and once shimmed; repeat what differs, `repeats` times each way."""
    start = time.monotonic()
    place = shimlib.Place()
    try:
        plain, _ = _run(suite, "plain", place, 0)
        shimmed, log = _run(suite, "shimmed", place, 0)
        verdict = Verdict(suite, plain, shimmed, log.accelerated("client"), log.plain_reasons(), repeats=repeats)
        passed = {kind: collections.Counter() for kind in ("plain", "shimmed")}
        for count in range(1, repeats + 1) if verdict.lost else ():
            for kind in passed:
                passed[kind].update(_run(suite, kind, place, count, verdict.lost)[0].passed)
        verdict.repeated = {test: (passed["plain"][test], passed["shimmed"][test]) for test in verdict.lost}
        verdict.seconds = time.monotonic() - start
        return verdict
    finally:
        place.remove()
