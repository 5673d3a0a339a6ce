"""Demands held against what was measured. Pure, as `verdict` is.

The comparisons of the kernel with itself (the A/A controls) say how large a difference must be to count: the greatest
factor by which two equal runs of one repetition differed, in the same placement. A demand that is missed by less is
missed within the noise.
"""

from dataclasses import dataclass

from kvoshim.bench.model import CONTROL, KERNEL, Target
from kvoshim.bench.verdict import Row, best_kernel, quantity

HOLDS, MISSES, NOISE, NOT_COMPARED = "holds", "misses", "misses within noise", "not compared"

# Quantities that the control's times can say something about, and the one that its CPU figures can.
TIMED = ("faster", "best", "time", "ring", "same-ring", "line", "alone")


@dataclass(frozen=True)
class Finding:
    """A demand held against a row: the value, the verdict, and in how many repetitions it was met.

    goal: whether the stretch value is reached. noise: the factor that does not count.
    """

    target: Target
    row: Row
    value: float | None
    verdict: str
    met: int
    of: int
    goal: bool
    noise: float | None

    def words(self) -> str:
        """The verdict for a table cell."""
        return f"{self.verdict} {self.met}/{self.of}" if self.value is not None else self.verdict


def spread_factor(rows: list[tuple[float | None, float | None]]) -> float | None:
    """The greatest factor between the two values of a pair; None without a pair."""
    factors = [max(a / b, b / a) for a, b in rows if a and b]
    return max(factors) if factors else None


class Results:
    """All rows of a run, and what can be said of them together. groups: the rows of one block each."""

    def __init__(self, groups: list[list[Row]]) -> None:
        self.groups = groups
        self.rows = [row for rows in groups for row in rows]
        self.bests = {id(row): best_kernel(rows) for rows in groups for row in rows}
        self.controls = {(row.block.case.name, row.placement): row for row in self.rows if row.subject == CONTROL}

    def best(self, row: Row) -> Row | None:
        """The row of the same block in which the kernel does best."""
        return self.bests[id(row)]

    def noise(self, row: Row, name: str = "faster") -> float | None:
        """The factor that does not count in this row for this quantity; None: no control tells it."""
        control = self.controls.get((row.block.case.control, row.placement))
        if control is None or name not in (*TIMED, "cpu") and not name.startswith("peer:"):
            return None
        key = "cpu_per_s" if name == "cpu" else "time_ns"
        pairs = zip(control.values(KERNEL, key), control.values(CONTROL, key), strict=False)
        return spread_factor(list(pairs))

    def judge(self, row: Row, target: Target) -> Finding:
        """One demand on one row. Nothing is compared unless the row's state is ok."""
        best = self.best(row)
        value = quantity(target.quantity, row, best) if row.state() == "ok" else None
        if value is None:
            reason = NOT_COMPARED if row.state() == "ok" else row.state()
            return Finding(target, row, None, reason, 0, 0, False, None)
        each = [quantity(target.quantity, row, best, index) for index in range(len(row.runs[row.subject]))]
        each = [one for one in each if one is not None]
        noise = self.noise(row, target.quantity)
        verdict = HOLDS if target.met(value) else NOISE if target.met(value, noise or 1.0) else MISSES
        return Finding(
            target, row, value, verdict, sum(map(target.met, each)), len(each), target.reached(value), noise
        )

    def findings(self, row: Row) -> list[Finding]:
        """Every demand on this row."""
        case, size = row.block.case, row.block.size
        return [self.judge(row, target) for target in case.targets if target.applies(size, row.placement)]

    def all_findings(self) -> list[Finding]:
        """Every demand on every row."""
        return [one for row in self.rows for one in self.findings(row)]

    def row_verdict(self, row: Row) -> str:
        """The table's last column: the row's worst finding, or why nothing is compared; '-' without demands."""
        if row.state() != "ok":
            return row.state()
        found = self.findings(row)
        for verdict in (MISSES, NOT_COMPARED, NOISE, HOLDS):
            of_kind = [finding for finding in found if finding.verdict == verdict]
            if of_kind:
                return min(of_kind, key=lambda finding: finding.met).words()
        return "-"

    def missed(self) -> list[Finding]:
        """The demands that are clearly missed, and those that should have been compared and were not."""
        return [one for one in self.all_findings() if one.verdict in (MISSES, "not accelerated")]
