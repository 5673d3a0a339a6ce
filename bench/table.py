"""What a person reads: one table for each shape of figure, then every demand with its verdict."""

from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.cases import KERNEL, PLACEMENTS, size_label
from bench.cells import accelerated_text, cpu_text, p99_text, rate_text, ratio_text, spread_text, styled, time_text
from bench.verdict import RING, Finding, L, R, Row, Spread, best_kernel, findings, quantity, row_verdict

LEGEND = (
    "Medians over repetitions [min..max]. cpus: server-client, 'any' is unpinned, * is the kernel's best. "
    "x kernel: how many times faster than the kernel's socket in the same placement; x best: than in its "
    "best. / ring: how many times the bare ring's time for the same size. at least: the row's demands, and "
    "in how many repetitions they were met. Only ratios within this run carry to another machine."
)


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
                size_label(row.block.case, row.block.size),
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


def calls_table(groups: list[list[Row]]) -> Table:
    """The least time of one call, and how much of it is the shim's."""
    table = Table(title="Single calls: least time", title_justify="left", header_style="bold")
    for heading in ("case", "cpus", "kernel", "shim", "more", "accelerated", "at least"):
        table.add_column(heading)
    for rows in groups:
        for row in rows:
            extra = quantity("extra", row, None) if row.state() == "ok" else None
            table.add_row(
                row.block.case.name,
                row.placement,
                *[escape(spread_text(row.spread(subject), "call")) for subject in (KERNEL, row.subject)],
                "-" if extra is None else f"{ratio_text(extra)} ns",
                accelerated_text(row),
                styled(row_verdict(row, None)),
            )
    return table


def idle_cells(row: Row) -> list[str]:
    """CPU time and wake-ups of both sides, kernel and shim: the worst repetition."""
    cells = []
    for subject in (KERNEL, row.subject):
        cpu, wakes = row.spread(subject, "cpu_s"), row.spread(subject, "wake_ups")
        cells += [f"{cpu.high * 1e6:.0f} us", f"{wakes.high:.0f}"] if cpu and wakes else ["-", "-"]
    return cells


def number_text(spread: Spread | None) -> str:
    """The median of a count."""
    return f"{spread.median:g}" if spread else "-"


def idle_table(groups: list[list[Row]]) -> Table:
    """CPU time of connections on which nothing happens."""
    table = Table(title="Idle connections: CPU of both sides", title_justify="left", header_style="bold")
    for heading in ("case", "cpus", "seconds", "kernel CPU", "wake-ups", "shim CPU", "wake-ups"):
        table.add_column(heading)
    table.add_column("accelerated")
    table.add_column("at least")
    for rows in groups:
        for row in rows:
            start = [row.block.case.name, row.placement, number_text(row.spread(KERNEL, "seconds"))]
            table.add_row(*start, *idle_cells(row), accelerated_text(row), styled(row_verdict(row, None)))
    return table


def crowd_table(groups: list[list[Row]]) -> Table:
    """Memory that both ends have touched for each of many idle connections, and their CPU time."""
    title = "Many idle connections: touched memory (bytes a connection) and CPU of both sides"
    table = Table(title=title, title_justify="left", header_style="bold")
    for heading in ("case", "cpus", "connections", "kernel bytes", "shim bytes", "more"):
        table.add_column(heading)
    for heading in ("kernel CPU", "wake-ups", "shim CPU", "wake-ups", "accelerated", "at least"):
        table.add_column(heading)
    for rows in groups:
        for row in rows:
            cells = [row.block.case.name, row.placement, number_text(row.spread(KERNEL, "connections"))]
            spreads = [row.spread(subject, "bytes_per_connection") for subject in (KERNEL, row.subject)]
            cells += [ratio_text(spread.median if spread else None) for spread in spreads]
            cells.append(ratio_text(quantity("memory", row, None) if row.state() == "ok" else None))
            table.add_row(*cells, *idle_cells(row), accelerated_text(row), styled(row_verdict(row, None)))
    return table


def demands_table(found: list[Finding]) -> Table:
    """Every demand of the Speed table on what was measured."""
    table = Table(title="Demands", title_justify="left", header_style="bold")
    for heading in ("case", "size", "cpus", "demand", "measured", "verdict"):
        table.add_column(heading)
    for one in found:
        block = one.row.block
        where = (block.case.name, size_label(block.case, block.size), one.row.placement)
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
    for shape, table in (("call", calls_table), ("idle", idle_table), ("crowd", crowd_table)):
        chosen = [rows for rows in groups if rows and rows[0].block.case.shape == shape]
        if chosen:
            console.print(table(chosen))
    found = [one for rows in groups for row in rows for one in findings(row, best_kernel(rows))]
    if found:
        console.print(demands_table(found))
    for note in notes:
        console.print(note, style="yellow", markup=False, highlight=False)
    busy = f"Load average {load['load_before']:.1f} before, {load['load_after']:.1f} after"
    stolen = f"{load['stolen_share']:.1%} of the CPU time stolen by the hypervisor"
    console.print(f"{busy}; {stolen}; {load['seconds']:.0f} s.", highlight=False)
