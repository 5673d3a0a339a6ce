"""From repetitions to medians and ratios. Pure: no clock, no process, no file."""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from kvoshim.bench.model import ALONE, CONTROL, KERNEL, RING, SHIM, Block, L, R


@dataclass(frozen=True)
class Spread:
    """Median over the repetitions, with the least and the greatest."""

    median: float
    low: float
    high: float


@dataclass
class Row:
    """One block in one placement: for each subject its runs, one a repetition (None: no figure).

    errors: what failed, by subject. absent: subjects that this machine does not have, and what to install.
    """

    block: Block
    placement: str
    runs: dict[str, list[dict | None]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

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

    @property
    def needed(self) -> tuple[str, ...]:
        """The subjects without which nothing can be compared: peers and rings may fail by themselves."""
        return KERNEL, self.subject

    def state(self) -> str:
        """Whether the shim's side may be compared: 'ok', or why not."""
        if any(subject in self.errors for subject in self.needed):
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


# figure(row, subject, key) of the medians or of one repetition -> the quantity. `best`: the kernel's best row.
Figure = Callable[..., float | None]
TIME, CPU, BYTES = "time_ns", "cpu_per_s", "bytes_per_connection"
QUANTITY: dict[str, Callable[[Figure, Row, Row | None], float | None]] = {
    "faster": lambda of, row, best: ratio(of(row, KERNEL), of(row, row.subject)),
    "best": lambda of, row, best: ratio(of(best, KERNEL), of(row, row.subject)) if best else None,
    "time": lambda of, row, best: ratio(of(row, row.subject), of(row, KERNEL)),
    "ring": lambda of, row, best: ratio(of(row, row.subject), of(row, R)),
    "same-ring": lambda of, row, best: ratio(of(row, row.subject), of(row, RING)),
    "line": lambda of, row, best: ratio(of(row, row.subject), of(row, L)),
    "alone": lambda of, row, best: ratio(of(row, row.subject), of(row, ALONE)),
    "tail": lambda of, row, best: ratio(of(row, row.subject, "p99_ns"), of(row, row.subject, "median_ns")),
    "fair": lambda of, row, best: of(row, row.subject, "fair"),
    "cpu": lambda of, row, best: ratio(of(row, row.subject, CPU), of(row, KERNEL, CPU)),
    "idle": lambda of, row, best: of(row, row.subject, "cpu_s"),
    "extra": lambda of, row, best: more(of(row, row.subject), of(row, KERNEL)),
    "cost": lambda of, row, best: of(row, row.subject),
    "memory": lambda of, row, best: more(of(row, row.subject, BYTES), of(row, KERNEL, BYTES)),
    "held": lambda of, row, best: of(row, row.subject, "bytes_per_observation"),
    "spawner": lambda of, row, best: of(row, row.subject, "spawner_bytes"),
    "startd": lambda of, row, best: of(row, row.subject, "startd_bytes"),
}


def quantity(name: str, row: Row, best: Row | None, repetition: int | None = None) -> float | None:
    """A Target's quantity for this row, of the medians or of one repetition; None if it cannot be had."""

    def of(source: Row, subject: str, key: str = TIME) -> float | None:
        if repetition is None:
            spread = source.spread(subject, key)
            return (spread.high if name == "idle" else spread.median) if spread else None
        values = source.values(subject, key)
        return values[repetition] if repetition < len(values) else None

    if name.startswith("peer:"):
        return ratio(of(row, name.removeprefix("peer:")), of(row, row.subject))
    return QUANTITY[name](of, row, best)
