"""What a person reads: one table for each shape of figure, then every demand with its verdict."""

from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.cases import KERNEL, PLACEMENTS, size_label
from bench.verdict import (
    MEETS,
    MISSES,
    RING,
    Finding,
    L,
    R,
    Row,
    Spread,
    best_kernel,
    findings,
    quantity,
    row_verdict,
)

LEGEND = (
    "Medians over repetitions [min..max]. cpus: server-client, 'any' is unpinned, * is the kernel's best. "
    "x kernel: how many times faster than the kernel's socket in the same placement; x best: than in its "
    "best. / ring: how many times the bare ring's time for the same size. at least: the row's demands, and "
    "in how many repetitions they were met. Only ratios within this run carry to another machine."
)
STYLES = {MEETS: "green", MISSES: "red"}


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
    style = STYLES.get(verdict.split(" ")[0])
    if verdict == "-" or verdict == "no shim run":
        return verdict
    return f"[{style or 'yellow'}]{escape(verdict)}[/]"


def p99_text(row: Row, subject: str) -> str:
    """The median of the repetitions' 99th percentiles."""
    spread = row.spread(subject, "p99_ns")
    return time_text(spread.median) if spread else "-"


def cpu_text(row: Row) -> str:
    """CPU seconds a second, both sides together: kernel, shim."""
    spreads = [row.spread(subject, "cpu_per_s") for subject in (KERNEL, row.subject)]
    return " / ".join(f"{spread.median:.2f}" if spread else "-" for spread in spreads)


def figures_table(title: str, shape: str, groups: list[list[Row]]) -> Table:
    """The rows of one shape (trip or rate)."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for heading in ("case", "size", "cpus"):
        table.add_column(heading, no_wrap=True)
    for heading in ("kernel", "p99", "shim", "p99", "x kernel", "x best", "/ ring", "ring", "CPU s/s"):
        table.add_column(heading, justify="right")
    for heading in ("accelerated", "at least"):
        table.add_column(heading)
    for rows in groups:
        best = best_kernel(rows)
        for row in rows:
            compared = row.state() == "ok"
            ratios = [
                quantity(name, row, best) if compared else None for name in ("faster", "best", "same-ring")
            ]
            ring = row.spread(RING)
            table.add_row(
                row.block.case.name,
                size_label(row.block.size),
                row.placement + (" *" if row is best and len(rows) > 1 else ""),
                escape(spread_text(row.spread(KERNEL), shape)),
                p99_text(row, KERNEL),
                escape(spread_text(row.spread(row.subject), shape)),
                p99_text(row, row.subject),
                *[ratio_text(value) for value in ratios],
                "-" if ring is None else (rate_text if shape == "rate" else time_text)(ring.median),
                cpu_text(row),
                accelerated_text(row),
                styled(row_verdict(row, best)),
            )
        table.add_section()
    return table


def accelerated_text(row: Row) -> str:
    """Connections that the shim's log proves; 'not asked' where a row needs no proof."""
    if not row.spread(row.subject) and not row.spread(row.subject, "cpu_s"):
        return "-"
    if row.subject == "control":
        return "control"
    return escape(row.proof_words()) if row.block.case.connections else "not asked"


def idle_table(groups: list[list[Row]]) -> Table:
    """CPU time of connections on which nothing happens."""
    table = Table(title="Idle connections: CPU of both sides", title_justify="left", header_style="bold")
    for heading in ("case", "cpus", "seconds", "kernel CPU", "wake-ups", "shim CPU", "wake-ups"):
        table.add_column(heading)
    table.add_column("accelerated")
    table.add_column("at least")
    for rows in groups:
        for row in rows:
            cells = [row.block.case.name, row.placement]
            length = row.spread(KERNEL, "seconds")
            cells.append(f"{length.median:g}" if length else "-")
            for subject in (KERNEL, row.subject):
                cpu, wakes = row.spread(subject, "cpu_s"), row.spread(subject, "wake_ups")
                cells += [f"{cpu.high * 1e6:.0f} us", f"{wakes.high:.0f}"] if cpu and wakes else ["-", "-"]
            table.add_row(*cells, accelerated_text(row), styled(row_verdict(row, None)))
    return table


def demands_table(found: list[Finding]) -> Table:
    """Every demand of the Speed table on what was measured."""
    table = Table(title="Demands", title_justify="left", header_style="bold")
    for heading in ("case", "size", "cpus", "demand", "measured", "verdict"):
        table.add_column(heading)
    for one in found:
        block = one.row.block
        where = (block.case.name, size_label(block.size), one.row.placement)
        table.add_row(*where, one.target.text(), ratio_text(one.value), styled(one.words()))
    return table


def show(console: Console, machine: dict, load: dict, groups: list[list[Row]], notes: list[str]) -> None:
    """Prints the whole report."""
    parts = [
        machine["cpu"],
        f"{machine['cpus']} CPUs",
        f"Linux {machine['kernel']}",
        machine["libc"],
        machine["python"],
    ]
    console.print(", ".join(map(str, parts)), style="bold", markup=False, highlight=False)
    for name, meaning in ((L, "a cache line there and back"), (R, "8 B there and back through a bare ring")):
        for placement in PLACEMENTS:
            pairs = [row.spread(name) for rows in groups for row in rows if row.placement == placement]
            times = [spread.median for spread in pairs if spread]
            if times:
                spread = Spread(median(times), min(times), max(times))
                text = f"{name} {placement}: {spread_text(spread, 'trip')}, {meaning}"
                console.print(text, markup=False, highlight=False)
    console.print(LEGEND, markup=False, highlight=False)
    for title, shape in (("Round trips", "trip"), ("Rates", "rate")):
        chosen = [rows for rows in groups if rows and rows[0].block.case.shape == shape]
        if chosen:
            console.print(figures_table(title, shape, chosen))
    idle = [rows for rows in groups if rows and rows[0].block.case.shape == "idle"]
    if idle:
        console.print(idle_table(idle))
    found = [one for rows in groups for row in rows for one in findings(row, best_kernel(rows))]
    if found:
        console.print(demands_table(found))
    for note in notes:
        console.print(note, style="yellow", markup=False, highlight=False)
    busy = f"Load average {load['load_before']:.1f} before, {load['load_after']:.1f} after"
    stolen = f"{load['stolen_share']:.1%} of the CPU time stolen by the hypervisor"
    console.print(f"{busy}; {stolen}; {load['seconds']:.0f} s.", highlight=False)
