"""What a case, a demand and a block are. Data only; the cases themselves are in `cases`.

A case is a program pair in one mode. It is measured in blocks: one size, in every placement, with all subjects (kernel,
shim, the bare ring, peers) one after the other in each repetition, so that ratios are taken side by side.
"""

from dataclasses import dataclass

# Which CPUs server and client run on: one each, both on the first, or wherever the scheduler likes.
PLACEMENTS = ("0-1", "0-0", "any")
SIZES = (8, 64, 1024, 65536)
ENDS = (8, 65536)

KERNEL, SHIM, CONTROL, CORE = "kernel", "shim", "control", "core"
# The shim with a single connection, beside a row with many.
ALONE = "alone"
# The bare companions of a row: ring of the same size and shape; R, its 8-byte round trip; L, a cache line's.
RING, R, L = "ring", "R", "L"

# The points of a distribution that every driver reports, in per cent (bench/c/common.h, bench/py/figures.py).
QUANTILES = (0, 1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.9, 99.99, 100)

QUANTITIES = {
    "faster": "kernel / shim {}",
    "best": "kernel's best placement / shim {}",
    "time": "shim / kernel {}",
    "ring": "shim / R {}",
    "same-ring": "shim / ring {}",
    "line": "shim / L {}",
    "alone": "shim / one connection alone {}",
    "tail": "p99 / median {}",
    "fair": "slowest pair / fastest {}",
    "cpu": "CPU: shim / kernel {}",
    "idle": "CPU seconds {}",
    "extra": "shim - kernel {} ns",
    "cost": "time {} ns",
    "memory": "bytes a connection: shim - kernel {}",
    "held": "bytes an observation {}",
    "spawner": "bytes of the spawner {}",
    "startd": "bytes of the restarter {}",
}


@dataclass(frozen=True)
class Target:
    """One demand: `quantity` `relation` `must`, in these placements, for these sizes (all if empty).

    must is the bar of a release, stretch the goal (None: the bar is the goal). row: the demand's name in the list of
    targets. Quantities, each from medians over the repetitions of one block:

    faster     kernel's time / shim's time, same placement
    best       the same, against the kernel's best placement
    time       shim's time / kernel's time, same placement
    ring       shim's time / R;   line: / L;   same-ring: / the bare ring's at the row's size; same placement
    alone      shim's time / shim's time with a single connection
    peer:NAME  that peer's time / shim's time, same placement
    tail       shim's 99th percentile / shim's median
    fair       the slowest of many pairs / the fastest, in what they got done, through the shim
    cpu        shim's CPU / kernel's CPU, both sides
    idle       CPU seconds of both sides while idle, the greatest of the repetitions
    extra      shim's time - kernel's time, nanoseconds
    cost       shim's time by itself, nanoseconds
    memory     bytes of touched memory a connection, shim - kernel
    held       bytes of the controller's memory an observation
    spawner    resident bytes of the spawner;   startd: of the restarter
    """

    row: str
    quantity: str
    relation: str
    must: float
    stretch: float | None = None
    placements: tuple[str, ...] = PLACEMENTS
    sizes: tuple[int, ...] = ()

    def applies(self, size: int, placement: str) -> bool:
        """Whether this demand is about that row."""
        return placement in self.placements and (not self.sizes or size in self.sizes)

    def met(self, value: float, slack: float = 1.0) -> bool:
        """Whether the value meets the bar, or would with that factor to its favour."""
        return value * slack >= self.must if self.relation == ">=" else value / slack <= self.must

    def reached(self, value: float) -> bool:
        """Whether the value reaches the goal."""
        goal = self.must if self.stretch is None else self.stretch
        return value >= goal if self.relation == ">=" else value <= goal

    def text(self, limit: float | None = None) -> str:
        """The demand as a person reads it, or with another limit."""
        bound = f"{self.relation} {round(self.must if limit is None else limit, 3):g}"
        if self.quantity.startswith("peer:"):
            return f"{self.quantity.removeprefix('peer:')} / shim {bound}"
        return QUANTITIES[self.quantity].format(bound)


@dataclass(frozen=True)
class Case:
    """One kind of measurement.

    program: which function runs it, by the table in `runner`.
    shape: what the figure is: trip (median time), rate (time per message or request), idle (CPU alone), call (least
        time of one call), crowd (memory and CPU of many connections).
    unit: what its sizes are: bytes, connections, or us (microseconds of thinking between requests).
    shim: how the shim gets in: preload, module (kvoshim.socket), control (a preload that does nothing), or core (the
        core's own functions, beside which the kernel has nothing).
    ring: the bare ring's mode to stand beside it, if any. peers: other transports that stand beside it.
    connections: how many connections the shim must report as accelerated; 0 asks for no proof; -1 as many as its size.
    detail: least preset in which it runs: 0 quick, 1 default, 2 full.
    control: the case that compares the kernel with itself, whose spread is this one's noise.
    alone: whether the same runs with a single connection beside it. busy: programs that use the CPUs meanwhile.
    """

    name: str
    title: str
    program: str
    mode: str
    shape: str = "trip"
    sizes: tuple[int, ...] = SIZES
    quick_sizes: tuple[int, ...] = ENDS
    unit: str = "bytes"
    placements: tuple[str, ...] = PLACEMENTS
    api: str = "block"
    take: str = "exact"
    shim: str = "preload"
    ring: str | None = None
    peers: tuple[str, ...] = ()
    connections: int = 1
    detail: int = 0
    pipeline: int = 1
    alone: bool = False
    busy: bool = False
    control: str = "control"
    targets: tuple[Target, ...] = ()

    def proved(self, size: int) -> int:
        """How many accelerated connections its proof asks for."""
        return size if self.connections < 0 else self.connections


@dataclass(frozen=True)
class Preset:
    """How much is measured: repetitions, seconds a run, cases up to `detail`."""

    name: str
    detail: int
    repetitions: int
    seconds: float


PRESETS = {
    "quick": Preset("quick", 0, 3, 0.1),
    "default": Preset("default", 1, 3, 0.2),
    "full": Preset("full", 2, 3, 0.25),
}


def size_label(case: Case, size: int) -> str:
    """A size as the table and the block names show it."""
    if case.unit == "connections":
        return str(size)
    if case.unit == "us":
        return f"{size}us"
    for unit, bytes_each in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= bytes_each and size % bytes_each == 0:
            return f"{size // bytes_each}{unit}"
    return f"{size}B" if size else "-"


@dataclass(frozen=True)
class Block:
    """One case at one size."""

    case: Case
    size: int

    @property
    def name(self) -> str:
        """The block's name on the command line, as c-rtt/8B."""
        many = self.size or self.case.unit == "us"
        return f"{self.case.name}/{size_label(self.case, self.size)}" if many else self.case.name
