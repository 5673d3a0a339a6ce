"""Figures as the cells of a table show them."""

from rich.markup import escape

from kvoshim.bench.judging import HOLDS, MISSES, NOISE
from kvoshim.bench.model import KERNEL
from kvoshim.bench.verdict import Row, Spread

STYLES = {HOLDS: "green", NOISE: "yellow", MISSES: "red"}
PLAIN = ("-", "no shim run")

TIME_UNITS = (("s", 1e9), ("ms", 1e6), ("us", 1e3), ("ns", 1))
RATE_UNITS = (("M/s", 1e6), ("k/s", 1e3), ("/s", 1))


def three_digits(value: float) -> str:
    """About three digits, never an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def in_units(values: list[float], units: tuple[tuple[str, float], ...]) -> tuple[list[str], str]:
    """The values, all in the unit that suits the first of them, and that unit."""
    unit, size = next((one for one in units if values[0] >= one[1]), units[-1])
    return [three_digits(value / size) for value in values], unit


def time_text(nanoseconds: float) -> str:
    """A time in the unit that suits it."""
    (text,), unit = in_units([nanoseconds], TIME_UNITS)
    return f"{text} {unit}"


def rate_text(nanoseconds: float) -> str:
    """Operations a second, given the time of one."""
    (text,), unit = in_units([1e9 / nanoseconds], RATE_UNITS)
    return f"{text} {unit}"


def spread_text(spread: Spread | None, shape: str) -> str:
    """Median with range. Rates are shown as rates: their range turns round."""
    if spread is None:
        return "-"
    if shape == "rate":
        values, unit = in_units([1e9 / spread.median, 1e9 / spread.high, 1e9 / spread.low], RATE_UNITS)
    else:
        values, unit = in_units([spread.median, spread.low, spread.high], TIME_UNITS)
    return f"{values[0]} {unit} [{values[1]}..{values[2]}]"


def ratio_text(value: float | None) -> str:
    """A ratio with three digits."""
    return "-" if value is None else three_digits(value)


def styled(verdict: str) -> str:
    """A verdict in its colour."""
    if verdict in PLAIN:
        return verdict
    known = verdict.rstrip("0123456789/").strip()
    return f"[{STYLES.get(known, 'yellow')}]{escape(verdict)}[/]"


def tail_text(row: Row, subject: str) -> str:
    """The medians of the repetitions' 99th and 99.9th percentiles."""
    spreads = [row.spread(subject, key) for key in ("p99_ns", "p999_ns")]
    return " / ".join(time_text(spread.median) for spread in spreads if spread) or "-"


def cpu_text(row: Row) -> str:
    """CPU time of an operation, both sides together: kernel, shim."""
    spreads = [row.spread(subject, "cpu_per_op_s") for subject in (KERNEL, row.subject)]
    return " / ".join(time_text(spread.median * 1e9) if spread else "-" for spread in spreads)


def accelerated_text(row: Row) -> str:
    """Connections that the shim's log proves; 'not asked' where a row needs no proof."""
    if not row.spread(row.subject) and not row.spread(row.subject, "cpu_s"):
        return "-"
    if row.subject == "control":
        return "control"
    return escape(row.proof_words()) if row.block.case.connections else "not asked"
