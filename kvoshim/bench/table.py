"""What a person reads: one table for each shape of figure, the peers, then every demand with its verdict."""

from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kvoshim.bench.cells import (
    accelerated_text,
    cpu_text,
    rate_text,
    ratio_text,
    spread_text,
    styled,
    tail_text,
    time_text,
)
from kvoshim.bench.judging import Finding, Results
from kvoshim.bench.model import ALONE, KERNEL, PLACEMENTS, RING, L, R, size_label
from kvoshim.bench.peers import PEERS
from kvoshim.bench.verdict import Row, Spread, quantity, ratio

LEGEND = (
    "Medians over repetitions [min..max], with the 99th and 99.9th percentile. cpus: server-client, 'any' is unpinned, * is the "
    "kernel's best. x kernel: how many times faster than the kernel's socket in the same placement; x best: than in its best. "
    "noise: the factor by which two equal runs differed (A/A control): less is no difference. / ring: how many times the bare "
    "ring's time for the same size. CPU: of both sides, for one operation. Only ratios within this run carry to another machine."
)


def new_table(title: str, left: tuple[str, ...], right: tuple[str, ...] = (), last: tuple[str, ...] = ()) -> Table:
    """A table whose columns of figures are aligned to the right."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for heading in left:
        table.add_column(heading, no_wrap=True)
    for heading in right:
        table.add_column(heading, justify="right")
    for heading in last:
        table.add_column(heading)
    return table


def where(row: Row) -> tuple[str, str]:
    """The cells that name a row."""
    return row.block.case.name, size_label(row.block.case, row.block.size)


def figures_table(title: str, shape: str, results: Results, groups: list[list[Row]]) -> Table:
    """The rows of one shape (trip or rate)."""
    table = new_table(
        title,
        ("case", "size", "cpus"),
        ("kernel", "p99 / p99.9", "shim", "p99 / p99.9", "x kernel", "noise", "x best", "/ ring", "ring", "CPU kernel / shim"),
        ("accelerated", "at least"),
    )
    for rows in groups:
        for row in rows:
            best, compared = results.best(row), row.state() == "ok"
            ratios = [quantity(name, row, best) if compared else None for name in ("faster", "best", "same-ring")]
            ring = row.spread(RING)
            table.add_row(
                *where(row),
                row.placement + (" *" if row is best and len(rows) > 1 else ""),
                escape(spread_text(row.spread(KERNEL), shape)),
                tail_text(row, KERNEL),
                escape(spread_text(row.spread(row.subject), shape)),
                tail_text(row, row.subject),
                ratio_text(ratios[0]),
                ratio_text(results.noise(row)),
                *[ratio_text(value) for value in ratios[1:]],
                "-" if ring is None else (rate_text if shape == "rate" else time_text)(ring.median),
                cpu_text(row),
                accelerated_text(row),
                styled(results.row_verdict(row)),
            )
        table.add_section()
    return table


def others_table(groups: list[list[Row]]) -> Table:
    """Other transports in the place of the socket, and what this machine lacks of them."""
    title = "Peers: the same programs over other transports"
    table = new_table(title, ("case", "size", "cpus", "peer"), ("peer", "shim", "shim is x times as fast", "CPU"))
    for rows in groups:
        for row in rows:
            names = [*row.block.case.peers, *([ALONE] if row.block.case.alone else [])]
            for name in names:
                title = PEERS[name].title if name in PEERS else "the shim with one connection"
                cells = [*where(row), row.placement, title]
                spread = row.spread(name)
                if name in row.absent:
                    table.add_row(*cells, f"[red]NOT INSTALLED[/] ({escape(row.absent[name])})")
                elif name in row.errors:
                    table.add_row(*cells, f"[red]FAILED[/] {escape(row.errors[name][:60])}")
                elif spread:
                    shape, shim = row.block.case.shape, row.spread(row.subject)
                    faster = ratio(spread.median, shim.median) if shim and row.state() == "ok" else None
                    cpu = row.spread(name, "cpu_per_op_s")
                    times = [escape(spread_text(one, shape)) for one in (spread, shim)]
                    table.add_row(*cells, *times, ratio_text(faster), time_text(cpu.median * 1e9) if cpu else "-")
        table.add_section()
    return table


def calls_table(results: Results, groups: list[list[Row]]) -> Table:
    """The least time of one call, and how much of it is the shim's."""
    headings = ("case", "cpus", "kernel", "shim", "more", "accelerated", "at least")
    table = new_table("Single calls: least time", (), (), headings)
    for rows in groups:
        for row in rows:
            extra = quantity("extra", row, None) if row.state() == "ok" else None
            table.add_row(
                row.block.case.name,
                row.placement,
                *[escape(spread_text(row.spread(subject), "call")) for subject in (KERNEL, row.subject)],
                "-" if extra is None else f"{ratio_text(extra)} ns",
                accelerated_text(row),
                styled(results.row_verdict(row)),
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


def idle_table(results: Results, groups: list[list[Row]]) -> Table:
    """CPU time of connections on which nothing happens."""
    headings = ("case", "cpus", "seconds", "kernel CPU", "wake-ups", "shim CPU", "wake-ups", "accelerated", "at least")
    table = new_table("Idle connections: CPU of both sides", (), (), headings)
    for rows in groups:
        for row in rows:
            start = [row.block.case.name, row.placement, number_text(row.spread(KERNEL, "seconds"))]
            table.add_row(*start, *idle_cells(row), accelerated_text(row), styled(results.row_verdict(row)))
    return table


def crowd_table(results: Results, groups: list[list[Row]]) -> Table:
    """Memory that both ends have touched for each of many idle connections, and their CPU time."""
    title = "Many idle connections: touched memory (bytes a connection) and CPU of both sides"
    headings = ("case", "cpus", "connections", "kernel bytes", "shim bytes", "more")
    more = ("kernel CPU", "wake-ups", "shim CPU", "wake-ups", "accelerated", "at least")
    table = new_table(title, (), (), headings + more)
    for rows in groups:
        for row in rows:
            cells = [row.block.case.name, row.placement, number_text(row.spread(KERNEL, "connections"))]
            spreads = [row.spread(subject, "bytes_per_connection") for subject in (KERNEL, row.subject)]
            cells += [ratio_text(spread.median if spread else None) for spread in spreads]
            cells.append(ratio_text(quantity("memory", row, None) if row.state() == "ok" else None))
            table.add_row(*cells, *idle_cells(row), accelerated_text(row), styled(results.row_verdict(row)))
    return table


def demands_table(found: list[Finding]) -> Table:
    """Every demand on what was measured: the bar, and the goal."""
    table = new_table("Demands", ("row", "case", "size", "cpus"), (), ("must", "goal", "measured", "noise", "verdict", "goal reached"))
    for one in found:
        target = one.target
        table.add_row(
            target.row,
            *where(one.row),
            one.row.placement,
            target.text(),
            "-" if target.stretch is None else f"{target.relation} {target.stretch:g}",
            ratio_text(one.value),
            ratio_text(one.noise),
            styled(one.words()),
            "-" if one.value is None or target.stretch is None else "[green]yes[/]" if one.goal else "no",
        )
    return table


def heading(console: Console, machine: dict, results: Results) -> None:
    """The machine, and its limits."""
    names = ("cpu", "cpus", "kernel", "libc", "python")
    cpu, cpus, kernel, libc, python = (machine.get(name, "?") for name in names)
    parts = (cpu, f"{cpus} CPUs", f"Linux {kernel}", libc, python)
    console.print(", ".join(map(str, parts)), style="bold", markup=False, highlight=False)
    for name, meaning in ((L, "a cache line there and back"), (R, "8 B there and back through a bare ring")):
        for placement in PLACEMENTS:
            pairs = [row.spread(name) for row in results.rows if row.placement == placement]
            times = [spread.median for spread in pairs if spread]
            if times:
                spread = Spread(median(times), min(times), max(times))
                text = f"{name} {placement}: {spread_text(spread, 'trip')}, {meaning}"
                console.print(text, markup=False, highlight=False)
    console.print(LEGEND, markup=False, highlight=False)


def show(console: Console, machine: dict, load: dict, results: Results, notes: list[str]) -> None:
    """Prints the whole report."""
    heading(console, machine, results)

    def of(*shapes: str) -> list[list[Row]]:
        return [rows for rows in results.groups if rows and rows[0].block.case.shape in shapes]

    for title, shape in (("Round trips", "trip"), ("Rates", "rate")):
        if chosen := of(shape):
            console.print(figures_table(title, shape, results, chosen))
    if chosen := [rows for rows in of("trip", "rate") if rows[0].block.case.peers or rows[0].block.case.alone]:
        console.print(others_table(chosen))
    for shape, table in (("call", calls_table), ("idle", idle_table), ("crowd", crowd_table)):
        if chosen := of(shape):
            console.print(table(results, chosen))
    if found := results.all_findings():
        console.print(demands_table(found))
    for note in notes:
        console.print(note, style="yellow", markup=False, highlight=False)
    busy = f"Load average {load['load_before']:.1f} before, {load['load_after']:.1f} after"
    stolen = f"{load['stolen_share']:.1%} of the CPU time stolen by the hypervisor"
    console.print(f"{busy}; {stolen}; {load['seconds']:.0f} s.", highlight=False)
