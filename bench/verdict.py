"""From repetitions to medians, ratios and verdicts. Pure: no clock, no process, no file."""

from dataclasses import asdict, dataclass, field
from statistics import median

from bench.cases import CONTROL, KERNEL, SHIM, Block, Target

# The bare companions of a row: ring of the same size and shape; R, its 8-byte round trip; L, a cache line's.
RING, R, L = "ring", "R", "L"

MEETS, MISSES, NOT_COMPARED = "meets", "misses", "not compared"


@dataclass(frozen=True)
class Spread:
    """Median over the repetitions, with the least and the greatest."""

    median: float
    low: float
    high: float


@dataclass
class Row:
    """One block in one placement: for each subject its runs, one a repetition (None: no figure)."""

    block: Block
    placement: str
    runs: dict[str, list[dict | None]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def values(self, subject: str, key: str = "time_ns") -> list[float | None]:
        """One figure of every repetition."""
        return [run.get(key) if run else None for run in self.runs.get(subject, [])]

    def spread(self, subject: str, key: str = "time_ns") -> Spread | None:
        """The figure over the repetitions; None if there is none."""
        values = [value for value in self.values(subject, key) if value is not None]
        return Spread(median(values), min(values), max(values)) if values else None

    @property
    def subject(self) -> str:
        """What stands beside the kernel's socket in this row."""
        return CONTROL if self.block.case.shim == CONTROL else SHIM

    def state(self) -> str:
        """Whether the shim's side may be compared: 'ok', or why not."""
        for subject in (KERNEL, self.subject):
            if subject in self.errors:
                return "failed"
        if not self.spread(self.subject, "cpu_per_s") and not self.spread(self.subject):
            return "no shim run"
        if self.subject == SHIM and self.block.case.connections:
            if not all(run and run["proof"]["holds"] for run in self.runs[SHIM]):
                return "not accelerated"
        return "ok"

    def proof_words(self) -> str:
        """How many connections were accelerated in the run that proves least."""
        proofs = [run["proof"] for run in self.runs.get(SHIM, []) if run and "proof" in run]
        if not proofs:
            return ""
        return min(proofs, key=lambda found: (found["holds"], found["client"] + found["server"]))["words"]


def best_kernel(rows: list[Row]) -> Row | None:
    """Of one block's rows, the one in which the kernel's socket does best, by its median."""
    timed = [row for row in rows if row.spread(KERNEL)]
    return min(timed, key=lambda row: row.spread(KERNEL).median) if timed else None


def ratio(over: float | None, under: float | None) -> float | None:
    """A quotient; None where a side is missing or nothing."""
    return over / under if over is not None and under else None


def more(over: float | None, under: float | None) -> float | None:
    """A difference; None where a side is missing."""
    return None if over is None or under is None else over - under


def quantity(name: str, row: Row, best: Row | None, repetition: int | None = None) -> float | None:
    """A Target's quantity for this row, of the medians or of one repetition; None if it cannot be had."""

    def of(source: Row | None, subject: str, key: str = "time_ns") -> float | None:
        if source is None:
            return None
        if repetition is None:
            spread = source.spread(subject, key)
            return (spread.high if name == "idle" else spread.median) if spread else None
        values = source.values(subject, key)
        return values[repetition] if repetition < len(values) else None

    other = row.subject
    if name == "faster":
        return ratio(of(row, KERNEL), of(row, other))
    if name == "best":
        return ratio(of(best, KERNEL), of(row, other))
    if name == "time":
        return ratio(of(row, other), of(row, KERNEL))
    if name == "ring":
        return ratio(of(row, other), of(row, R))
    if name == "same-ring":
        return ratio(of(row, other), of(row, RING))
    if name == "cpu":
        return ratio(of(row, other, "cpu_per_s"), of(row, KERNEL, "cpu_per_s"))
    if name == "idle":
        return of(row, other, "cpu_s")
    if name == "extra":
        return more(of(row, other), of(row, KERNEL))
    if name == "cost":
        return of(row, other)
    if name == "memory":
        return more(of(row, other, "bytes_per_connection"), of(row, KERNEL, "bytes_per_connection"))
    raise ValueError(f"unknown quantity '{name}'")


@dataclass(frozen=True)
class Finding:
    """A demand held against a row: the value, the verdict, and in how many repetitions it was met."""

    target: Target
    row: Row
    value: float | None
    verdict: str
    met: int
    of: int

    def words(self) -> str:
        """The verdict for a table cell."""
        return f"{self.verdict} {self.met}/{self.of}" if self.verdict in (MEETS, MISSES) else self.verdict


def findings(row: Row, best: Row | None) -> list[Finding]:
    """Every demand on this row. Nothing is compared unless the row's state is ok."""
    found = []
    for target in row.block.case.targets:
        if not target.applies(row.block.size, row.placement):
            continue
        value = quantity(target.quantity, row, best) if row.state() == "ok" else None
        if value is None:
            reason = row.state() if row.state() != "ok" else NOT_COMPARED
            found.append(Finding(target, row, None, reason, 0, 0))
            continue
        each = [quantity(target.quantity, row, best, index) for index in range(len(row.runs[row.subject]))]
        each = [one for one in each if one is not None]
        verdict = MEETS if target.met(value) else MISSES
        found.append(Finding(target, row, value, verdict, sum(map(target.met, each)), len(each)))
    return found


def row_verdict(row: Row, best: Row | None) -> str:
    """The table's last column: the row's worst finding, or why nothing is compared; '-' without demands."""
    found = findings(row, best)
    if row.state() != "ok":
        return row.state()
    for verdict in (MISSES, NOT_COMPARED, MEETS):
        of_kind = [finding for finding in found if finding.verdict == verdict]
        if of_kind:
            return min(of_kind, key=lambda finding: finding.met).words()
    return "-"


def as_json(row: Row, best: Row | None) -> dict[str, object]:
    """The row with all its runs, for the file."""
    compared = row.state() == "ok"
    ratios = {name: quantity(name, row, best) for name in ("faster", "best", "ring", "same-ring", "cpu")}
    differences = {name: quantity(name, row, best) for name in ("extra", "memory")}
    return {
        "block": row.block.name,
        "case": row.block.case.name,
        "title": row.block.case.title,
        "size": row.block.size,
        "placement": row.placement,
        "shape": row.block.case.shape,
        "state": row.state(),
        "verdict": row_verdict(row, best),
        "medians": {name: asdict(spread) for name in row.runs if (spread := row.spread(name))},
        "ratios": ratios if compared else None,
        "differences": differences if compared else None,
        "best_kernel_placement": best.placement if best else None,
        "errors": row.errors,
        "runs": row.runs,
        "findings": [
            {
                "demand": one.target.text(),
                "value": one.value,
                "verdict": one.verdict,
                "met": one.met,
                "of": one.of,
            }
            for one in findings(row, best)
        ],
    }
