"""Two kept runs side by side: what changed by more than equal runs differ."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kvoshim.bench.cells import rate_text, ratio_text, time_text
from kvoshim.bench.model import KERNEL, SHIM, size_label
from kvoshim.bench.results import UnusableFile, read, results_of
from kvoshim.bench.verdict import Row, ratio

FASTER, SLOWER, SAME, UNKNOWN = "faster", "slower", "no difference", "noise unknown"
STYLES = {FASTER: "green", SLOWER: "red", UNKNOWN: "yellow"}
WIDTH = 200
# What makes a machine another one.
IDENTITY = ("cpu", "cpus", "machine", "kernel", "libc")


@dataclass(frozen=True)
class Change:
    """A row of both runs. before, after: the subject's median times. kernel: how the kernel's own time changed beside it.

    change: the factor that is judged: the subject's time, or between different machines its time over the kernel's.
    """

    row: Row
    before: float
    after: float
    kernel: float | None
    change: float
    noise: float | None

    @property
    def verdict(self) -> str:
        """Whether the change is more than noise."""
        if self.noise is None:
            return UNKNOWN
        return SLOWER if self.change > self.noise else FASTER if self.change < 1 / self.noise else SAME


def different(first: dict, second: dict) -> list[str]:
    """In what the two machines differ."""
    pairs = [(name, first["machine"].get(name), second["machine"].get(name)) for name in IDENTITY]
    return [f"{name}: {a} and {b}" for name, a, b in pairs if a != b]


def changes(first: dict, second: dict, subject: str = SHIM) -> list[Change]:
    """Every row that both runs have figures for."""
    before, after = results_of(first), results_of(second)
    others = {(row.block.name, row.placement): row for row in after.rows}
    elsewhere, found = bool(different(first, second)), []
    for row in before.rows:
        other = others.get((row.block.name, row.placement))
        spreads = [one.spread(subject) if one and one.state() == "ok" else None for one in (row, other)]
        if None in spreads:
            continue
        times = [spread.median for spread in spreads]
        kernels = [spread.median if (spread := one.spread(KERNEL)) else None for one in (row, other)]
        drift = ratio(kernels[1], kernels[0])
        noises = [before.noise(row), after.noise(other)]
        noise = max(noises) if None not in noises else None
        if not elsewhere and noise is not None and drift and subject != KERNEL:
            # The kernel's socket is the same program in both: what changed there, changed for another reason.
            noise = max(noise, drift, 1 / drift)
        change = times[1] / times[0]
        if elsewhere and drift:
            change /= drift
        found.append(Change(row, *times, drift, change, noise))
    return found


def show(console: Console, names: list[str], found: list[Change], apart: list[str]) -> None:
    """Prints the table."""
    table = Table(title=f"{names[0]} and {names[1]}", title_justify="left", header_style="bold")
    for heading in ("case", "size", "cpus"):
        table.add_column(heading, no_wrap=True)
    for heading in ("before", "after", "change", "kernel's", "noise"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for one in found:
        case = one.row.block.case
        text = rate_text if case.shape == "rate" else time_text
        style = STYLES.get(one.verdict)
        table.add_row(
            case.name,
            size_label(case, one.row.block.size),
            one.row.placement,
            text(one.before),
            text(one.after),
            ratio_text(one.change),
            ratio_text(one.kernel),
            ratio_text(one.noise),
            f"[{style}]{one.verdict}[/]" if style else one.verdict,
        )
    console.print(table)
    console.print(
        "change: time after / time before, less is faster; kernel's: the same of the kernel's socket. noise: the factor by which "
        "equal runs differed in either run, or the kernel's socket between them: less is no difference.",
        highlight=False,
    )
    if apart:
        words = f"The machines differ ({'; '.join(apart)}): change is of the time as a multiple of the kernel's."
        console.print(words, style="yellow", markup=False, highlight=False)


def main(words: list[str] | None = None) -> int:
    """0: nothing is slower; 1: something is; 2: the files cannot be compared."""
    parser = argparse.ArgumentParser(
        prog="bench/compare.py",
        description="Two kept runs of kvoshim bench side by side. Exit codes: 0 nothing is slower than noise explains, 1 "
        "something is, 2 the files cannot be compared.",
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--subject", default=SHIM, help="whose figures: shim (default), kernel, or a peer")
    arguments = parser.parse_args(words)
    files = [arguments.before, arguments.after]
    try:
        first, second = map(read, files)
    except UnusableFile as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    found = changes(first, second, arguments.subject)
    if not found:
        print(f"{parser.prog}: no row has figures of '{arguments.subject}' in both files", file=sys.stderr)
        return 2
    out = Console()
    console = out if out.is_terminal else Console(width=WIDTH)
    show(console, [path.name for path in files], found, different(first, second))
    return 1 if any(one.verdict == SLOWER for one in found) else 0
