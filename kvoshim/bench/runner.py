"""The order of the runs: in every repetition of a block, all placements, kernel, shim and peers one after the other.

So a ratio compares runs that are a second apart, and a slow spell of the host hits both sides.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

from kvoshim.bench import costs, drivers, loads, names, observation, peers, services
from kvoshim.bench.applications import mariadb, memcached, postgres, redis, web
from kvoshim.bench.drivers import Context
from kvoshim.bench.model import ALONE, CONTROL, CORE, KERNEL, RING, SHIM, Block, L, R
from kvoshim.bench.processes import RunError
from kvoshim.bench.verdict import Row

Progress = Callable[[str], None]
APPLICATIONS = {"redis": redis, "pgbench": postgres, "memcached": memcached, "mariadb": mariadb, "web": web}
# Programs that know their peers themselves.
BY_WAYS = {"observation": observation.run, "names": names.run, "services": services.run}


class Runner:
    """Runs blocks. A context manager: it owns the databases that some of them need."""

    def __init__(self, context: Context, repetitions: int, say: Progress) -> None:
        self.context = context
        self.repetitions = repetitions
        self.say = say
        self.skipped: dict[str, str] = {}
        self.postgres, self.mariadb = postgres.Postgres(), mariadb.MariaDB()
        self.stack = ExitStack()
        self.programs = {
            "stream": drivers.run_stream,
            "python": drivers.run_stream,
            "loops": drivers.run_stream,
            "load": loads.run_load,
            "pairs": loads.run_pairs,
            "idle": drivers.run_idle,
            "calls": costs.run_calls,
            "lock": costs.run_lock,
            "read": costs.run_read,
            "crowd": costs.run_crowd,
            "redis": redis.run,
            "pgbench": self.postgres.run,
            "mariadb": self.mariadb.run,
            "memcached": memcached.run,
            "web": web.run,
            "observation": observation.run,
            "names": names.run,
            "services": services.run,
        }

    def __enter__(self) -> "Runner":
        self.stack.callback(self.postgres.close)
        self.stack.callback(self.mariadb.close)
        return self

    def __exit__(self, *exception: object) -> None:
        self.stack.close()

    def missing(self, block: Block) -> str | None:
        """What this machine lacks for a block, or None."""
        program = block.case.program
        if program in ("lock", "read"):
            return costs.missing(self.context)
        if program in BY_WAYS:
            return None
        return APPLICATIONS.get(program, drivers).missing(block.case)

    def placements(self, block: Block) -> list[str]:
        """The placements that this machine allows; with one CPU there is no 0-1."""
        return [name for name in block.case.placements if name != "0-1" or len(self.context.cpus) > 1]

    def companions(self, block: Block) -> list[tuple[str, str, int]]:
        """Bare rings that run beside the block: (name, mode of the floor program, size)."""
        if block.case.program in BY_WAYS:
            return []
        if block.case.ring is None:
            return [(L, "line", 8)]
        rings = [(L, "line", 8), (RING, block.case.ring, block.size)]
        return rings + [(R, "rtt", 8)] if block.case.ring == "rtt" else rings

    def subjects(self, block: Block) -> list[str]:
        """Who runs in this block by the case's own programs: the kernel's socket, then what stands beside it."""
        if block.case.shim == CONTROL:
            return [KERNEL, CONTROL]
        if block.case.shim == CORE:
            return [SHIM]
        if block.case.shim == "preload" and self.context.library is None:
            return [KERNEL]
        return [KERNEL, SHIM, ALONE] if block.case.alone else [KERNEL, SHIM]

    def measure(self, row: Row, name: str, run: Callable[[], dict]) -> None:
        """One run. A subject that failed once in a row is left alone: it would only hang again. Whatever goes wrong is that
        run's failure: the hours before it must not be lost."""
        if name in row.errors:
            return
        try:
            figures = run()
        except RunError as error:
            row.errors[name], figures = str(error), None
        except Exception as error:
            row.errors[name], figures = f"{type(error).__name__}: {error}", None
        row.runs.setdefault(name, []).append(figures)

    def measure_companions(self, row: Row) -> None:
        """The bare rings. Where the ring of the row's own size is R itself, it runs once."""
        for name, mode, size in self.companions(row.block):
            if name == R and row.block.size == 8 and RING in row.runs:
                row.runs[R] = row.runs[RING]
                continue
            self.measure(row, name, partial(drivers.run_floor, self.context, mode, size, row.placement))

    def measure_peers(self, row: Row) -> None:
        """Other transports; what this machine does not have is noted."""
        for name in row.block.case.peers:
            if reason := peers.missing(name):
                row.absent[name] = reason
            elif row.placement in peers.PEERS[name].placements:
                what = (self.context, row.block.case, row.block.size, row.placement, name)
                run = BY_WAYS.get(row.block.case.program, peers.run_peer)
                self.measure(row, name, partial(run, *what))

    def run_block(self, block: Block) -> list[Row]:
        """All repetitions of one block: one row for each placement."""
        rows = [Row(block, placement) for placement in self.placements(block)]
        program = self.programs[block.case.program]
        for repetition in range(self.repetitions):
            for row in rows:
                self.measure_companions(row)
                for name in self.subjects(block):
                    what = (self.context, block.case, block.size, row.placement, name)
                    self.measure(row, name, partial(program, *what))
                self.measure_peers(row)
                times = f"{repetition + 1}/{self.repetitions}"
                self.say(f"{block.name} {row.placement} {times}: {last_figures(row)}")
        return rows

    def run(self, blocks: list[Block]) -> Iterator[list[Row]]:
        """Runs every block whose programs are installed; the others' reasons go to `skipped`."""
        start = time.monotonic()
        for number, block in enumerate(blocks, 1):
            if reason := self.missing(block):
                self.skipped[block.name] = reason
                self.say(f"[{number}/{len(blocks)}] {block.name} SKIPPED: {reason}")
                continue
            minutes, seconds = divmod(int(time.monotonic() - start), 60)
            self.say(f"[{number}/{len(blocks)}, {minutes}:{seconds:02d}] {block.case.title}")
            yield self.run_block(block)


def last_figures(row: Row) -> str:
    """What the last repetition gave, for the progress line."""
    words = [f"{name} NOT INSTALLED" for name in row.absent]
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
