"""The order of the runs: in every repetition of a block, all placements, kernel and shim one after the other.

So a ratio compares runs that are a second apart, and a slow spell of the host hits both sides.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

from bench import applications, costs, drivers, verdict
from bench.cases import CONTROL, CORE, KERNEL, SHIM, Block
from bench.drivers import Context
from bench.processes import RunError
from bench.verdict import Row

Progress = Callable[[str], None]


class Runner:
    """Runs blocks. A context manager: it owns the database cluster that some of them need."""

    def __init__(self, context: Context, repetitions: int, say: Progress) -> None:
        self.context = context
        self.repetitions = repetitions
        self.say = say
        self.skipped: dict[str, str] = {}
        self.postgres = applications.Postgres()
        self.stack = ExitStack()
        self.programs = {
            "stream": drivers.run_stream,
            "python": drivers.run_stream,
            "idle": drivers.run_idle,
            "calls": costs.run_calls,
            "lock": costs.run_lock,
            "crowd": costs.run_crowd,
            "redis": applications.run_redis,
            "pgbench": self.postgres.run,
        }

    def __enter__(self) -> "Runner":
        self.stack.callback(self.postgres.close)
        return self

    def __exit__(self, *exception: object) -> None:
        self.stack.close()

    def placements(self, block: Block) -> list[str]:
        """The placements that this machine allows; with one CPU there is no 0-1."""
        return [name for name in block.case.placements if name != "0-1" or len(self.context.cpus) > 1]

    def companions(self, block: Block) -> list[tuple[str, str, int]]:
        """Bare rings that run beside the block: (name, mode of the floor program, size)."""
        if block.case.ring is None:
            return [(verdict.L, "line", 8)]
        rings = [(verdict.L, "line", 8), (verdict.RING, block.case.ring, block.size)]
        return rings + [(verdict.R, "rtt", 8)] if block.case.ring == "rtt" else rings

    def subjects(self, block: Block) -> list[str]:
        """Who runs in this block: the kernel's socket, then what stands beside it."""
        if block.case.shim == CONTROL:
            return [KERNEL, CONTROL]
        if block.case.shim == CORE:
            return [SHIM]
        if block.case.shim == "preload" and self.context.library is None:
            return [KERNEL]
        return [KERNEL, SHIM]

    def measure(self, row: Row, name: str, run: Callable[[], dict]) -> None:
        """One run. A subject that failed once in a row is left alone: it would only hang again."""
        if name in row.errors:
            return
        try:
            figures = run()
        except RunError as error:
            row.errors[name] = str(error)
            figures = None
        row.runs.setdefault(name, []).append(figures)

    def run_block(self, block: Block) -> list[Row]:
        """All repetitions of one block: one row for each placement."""
        rows = [Row(block, placement) for placement in self.placements(block)]
        program = self.programs[block.case.program]
        for repetition in range(self.repetitions):
            for row in rows:
                # Where the ring of the row's own size is R itself, it runs once.
                for name, mode, size in self.companions(block):
                    if name == verdict.R and block.size == 8 and verdict.RING in row.runs:
                        row.runs[verdict.R] = row.runs[verdict.RING]
                        continue
                    self.measure(
                        row, name, partial(drivers.run_floor, self.context, mode, size, row.placement)
                    )
                for name in self.subjects(block):
                    what = (self.context, block.case, block.size, row.placement, name)
                    self.measure(row, name, partial(program, *what))
                times = f"{repetition + 1}/{self.repetitions}"
                self.say(f"{block.name} {row.placement} {times}: {last_figures(row)}")
        return rows

    def run(self, blocks: list[Block]) -> Iterator[list[Row]]:
        """Runs every block whose programs are installed; the others' reasons go to `skipped`."""
        for number, block in enumerate(blocks, 1):
            reason = applications.missing(block.case)
            if reason:
                self.skipped[block.name] = reason
                self.say(f"{block.name} skipped: {reason}")
                continue
            self.say(f"[{number}/{len(blocks)}] {block.case.title}")
            yield self.run_block(block)


def last_figures(row: Row) -> str:
    """What the last repetition gave, for the progress line."""
    words = []
    for name, runs in row.runs.items():
        if name in row.errors:
            words.append(f"{name} FAILED ({row.errors[name]})")
        elif runs[-1] and "time_ns" in runs[-1]:
            words.append(f"{name} {runs[-1]['time_ns'] / 1000:.3g} us")
        elif runs[-1] and "cpu_s" in runs[-1]:
            words.append(f"{name} {runs[-1]['cpu_s'] * 1e6:.0f} us CPU, {runs[-1]['wake_ups']} wake-ups")
            if "bytes_per_connection" in runs[-1]:
                words.append(f"{runs[-1]['bytes_per_connection'] / 1024:.3g} KiB each")
    return ", ".join(words)
