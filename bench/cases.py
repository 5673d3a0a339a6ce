"""What is measured, and what is asked of it. Data only.

A case is a program pair in one mode. It is measured in blocks: one size, in every placement, with all
subjects (kernel, shim, the bare ring) one after the other in each repetition, so that ratios are taken side
by side.
"""

from dataclasses import dataclass

# Which CPUs server and client run on: one each, both on the first, or wherever the scheduler likes.
PLACEMENTS = ("0-1", "0-0", "any")
SIZES = (8, 64, 1024, 65536)
ENDS = (8, 65536)

# The calls that bench/c/calls.c knows. select-500: on a descriptor with that number. dup-close: each counts as a call.
FOREIGN_CALLS = (
    "read",
    "write",
    "send",
    "recv",
    "recvmsg",
    "poll",
    "select",
    "select-500",
    "epoll_wait",
    "fcntl",
    "dup-close",
    "getsockopt",
)

KERNEL, SHIM, CONTROL = "kernel", "shim", "control"
CORE = "core"


@dataclass(frozen=True)
class Target:
    """One demand: `quantity` `relation` `limit`, in these placements, for these sizes (all if empty).

    Quantities, each from medians over the repetitions of one block:
    faster  kernel's time / shim's time, same placement
    best    the same, against the kernel's best placement
    time    shim's time / kernel's time, same placement
    ring    shim's time / R, same placement
    cpu     shim's CPU / kernel's CPU, both sides
    idle    CPU seconds of both sides while idle, the greatest of the repetitions
    extra   shim's time - kernel's time, nanoseconds
    cost    shim's time by itself, nanoseconds
    memory  bytes of touched memory a connection, shim - kernel
    """

    quantity: str
    relation: str
    limit: float
    placements: tuple[str, ...] = PLACEMENTS
    sizes: tuple[int, ...] = ()

    def applies(self, size: int, placement: str) -> bool:
        """Whether this demand is about that row."""
        return placement in self.placements and (not self.sizes or size in self.sizes)

    def met(self, value: float) -> bool:
        """Whether the value meets the demand."""
        return value >= self.limit if self.relation == ">=" else value <= self.limit

    def text(self) -> str:
        """The demand as a person reads it."""
        bound = f"{self.relation} {self.limit:g}"
        return {
            "faster": f"kernel / shim {bound}",
            "time": f"shim / kernel {bound}",
            "best": f"kernel's best placement / shim {bound}",
            "ring": f"shim / R {bound}",
            "cpu": f"CPU: shim / kernel {bound}",
            "idle": f"CPU seconds {bound}",
            "extra": f"shim - kernel {bound} ns",
            "cost": f"time {bound} ns",
            "memory": f"bytes a connection: shim - kernel {bound}",
        }[self.quantity]


@dataclass(frozen=True)
class Case:
    """One kind of measurement.

    program: stream (C), python, idle, calls, lock, crowd, redis or pgbench: which function of the layers above runs it.
    shape: what the figure is: trip (median time), rate (time per message or request), idle (CPU alone), call (least
        time of one call), crowd (memory and CPU of many connections; its sizes are their numbers).
    shim: how the shim gets in: preload, module (kvoshim.socket), control (a preload that does nothing), or core (the
        core's own functions, beside which the kernel has nothing).
    ring: the bare ring's mode to stand beside it, if any.
    connections: how many connections the shim must report as accelerated; 0 asks for no proof.
    detail: least preset in which it runs: 0 quick, 1 default, 2 full.
    """

    name: str
    title: str
    program: str
    mode: str
    shape: str = "trip"
    sizes: tuple[int, ...] = SIZES
    quick_sizes: tuple[int, ...] = ENDS
    placements: tuple[str, ...] = PLACEMENTS
    api: str = "block"
    take: str = "exact"
    shim: str = "preload"
    ring: str | None = None
    connections: int = 1
    detail: int = 0
    pipeline: int = 1
    targets: tuple[Target, ...] = ()


CASES = (
    Case(
        "control",
        "A/A control: kernel, and kernel with a preload that does nothing (libm)",
        "stream",
        "rtt",
        sizes=(8,),
        quick_sizes=(8,),
        shim="control",
        connections=0,
    ),
    Case(
        "c-rtt",
        "C round trip, blocking",
        "stream",
        "rtt",
        ring="rtt",
        quick_sizes=(8, 64, 65536),
        targets=(
            Target("faster", ">=", 50, ("0-1",), (8, 64)),
            Target("ring", "<=", 4, ("0-1",), (8, 64)),
            Target("time", "<=", 0.7, ("0-0",), (8, 64)),
        ),
    ),
    Case(
        "c-rtt-epoll",
        "C round trip, epoll on both sides",
        "stream",
        "rtt",
        api="epoll",
        ring="rtt",
        quick_sizes=(8,),
        targets=(Target("faster", ">=", 10, ("0-1",), (8,)),),
    ),
    Case("c-rtt-poll", "C round trip, poll before recv", "stream", "rtt", api="poll", ring="rtt", detail=2),
    Case(
        "c-rtt-spin",
        "C round trip, recv(MSG_DONTWAIT) in a loop",
        "stream",
        "rtt",
        api="spin",
        ring="rtt",
        sizes=ENDS,
        placements=("0-1", "any"),
        detail=2,
    ),
    Case(
        "c-oneway-exact",
        "C one way, reader takes whole messages",
        "stream",
        "oneway",
        "rate",
        ring="oneway",
        quick_sizes=(64, 65536),
        targets=(Target("faster", ">=", 10, ("0-1",), (64,)), Target("faster", ">=", 2, ("0-1",), (65536,))),
    ),
    Case(
        "c-oneway-take",
        "C one way, reader takes what is there",
        "stream",
        "oneway",
        "rate",
        ring="oneway",
        take="any",
        quick_sizes=(64, 65536),
        targets=(Target("faster", ">=", 10, ("0-1",), (64,)), Target("faster", ">=", 2, ("0-1",), (65536,))),
    ),
    Case(
        "c-oneway-epoll",
        "C one way, epoll, reader takes what is there",
        "stream",
        "oneway",
        "rate",
        sizes=(64,),
        api="epoll",
        take="any",
        ring="oneway",
        detail=2,
    ),
    Case(
        "c-paced",
        "C, a request every 1 ms",
        "stream",
        "paced",
        sizes=ENDS,
        quick_sizes=(8,),
        targets=(Target("time", "<=", 1.1), Target("cpu", "<=", 1.5)),
    ),
    Case(
        "c-idle",
        "C, idle connection",
        "idle",
        "idle",
        "idle",
        sizes=(8,),
        quick_sizes=(8,),
        placements=("0-1", "any"),
        targets=(Target("idle", "<=", 0.0),),
    ),
    # A log line for each connection would be measured along, so this one is taken without the log.
    Case(
        "c-connect",
        "C connect, request, close",
        "stream",
        "connect",
        sizes=(8,),
        quick_sizes=(8,),
        connections=0,
        targets=(Target("time", "<=", 1.5),),
    ),
    *(
        Case(
            f"call-{call}",
            f"{call} on a descriptor that is not ours",
            "calls",
            call,
            "call",
            sizes=(0,),
            quick_sizes=(0,),
            placements=("0-0",),
            targets=(Target("extra", "<=", 10),),
        )
        for call in FOREIGN_CALLS
    ),
    *(
        Case(
            name,
            title,
            "lock",
            mode,
            "call",
            sizes=(0,),
            quick_sizes=(0,),
            placements=("0-0",),
            shim=CORE,
            connections=0,
            targets=(Target("cost", "<=", 15),),
        )
        for name, title, mode in (
            ("core-lock", "table look-up and lock, one thread", "1"),
            ("core-lock-threads", "table look-up and lock that is taken", "2"),
        )
    ),
    Case(
        "idle-crowd",
        "C, many idle connections",
        "crowd",
        "idle",
        "crowd",
        sizes=(1000, 10000),
        quick_sizes=(1000,),
        placements=("0-0",),
        targets=(Target("memory", "<=", 40 * 1024), Target("idle", "<=", 0.0)),
    ),
    Case(
        "py-rtt",
        "Python round trip: socket, kvoshim.socket",
        "python",
        "rtt",
        shim="module",
        ring="rtt",
        targets=(Target("faster", ">=", 20, ("0-1",), (8,)),),
    ),
    Case(
        "py-oneway",
        "Python one way: socket, kvoshim.socket",
        "python",
        "oneway",
        "rate",
        shim="module",
        ring="oneway",
    ),
    Case(
        "py-rtt-preload",
        "Python round trip: socket, bare and preloaded",
        "python",
        "rtt",
        ring="rtt",
        detail=1,
    ),
    Case(
        "py-oneway-preload",
        "Python one way: socket, bare and preloaded",
        "python",
        "oneway",
        "rate",
        ring="oneway",
        sizes=ENDS,
        detail=2,
    ),
    Case(
        "redis-get-c1",
        "redis-benchmark GET -c 1",
        "redis",
        "get",
        "rate",
        sizes=(3,),
        quick_sizes=(3,),
        targets=(Target("faster", ">=", 3, ("any",)), Target("best", ">=", 1.1, ("any",))),
    ),
    Case(
        "redis-set-c1", "redis-benchmark SET -c 1", "redis", "set", "rate", sizes=(3, 1024), quick_sizes=(3,)
    ),
    Case(
        "redis-get-c50",
        "redis-benchmark GET -c 50",
        "redis",
        "get",
        "rate",
        sizes=(3,),
        quick_sizes=(3,),
        connections=50,
    ),
    Case(
        "redis-set-c50",
        "redis-benchmark SET -c 50",
        "redis",
        "set",
        "rate",
        sizes=(3,),
        quick_sizes=(3,),
        connections=50,
    ),
    Case(
        "redis-get-p16",
        "redis-benchmark GET -c 1 -P 16",
        "redis",
        "get",
        "rate",
        sizes=(3,),
        quick_sizes=(3,),
        pipeline=16,
    ),
    Case(
        "redis-set-p16",
        "redis-benchmark SET -c 1 -P 16",
        "redis",
        "set",
        "rate",
        sizes=(3,),
        quick_sizes=(3,),
        pipeline=16,
    ),
    Case(
        "pgbench",
        "pgbench -S -M prepared -c 1",
        "pgbench",
        "select",
        "rate",
        sizes=(0,),
        quick_sizes=(0,),
        targets=(Target("faster", ">=", 1.3, ("any",)),),
    ),
)


@dataclass(frozen=True)
class Preset:
    """How much is measured: repetitions, seconds a run, cases up to `detail`."""

    name: str
    detail: int
    repetitions: int
    seconds: float


PRESETS = {
    "quick": Preset("quick", 0, 3, 0.1),
    "default": Preset("default", 1, 3, 0.3),
    "full": Preset("full", 2, 5, 0.5),
}


def size_label(case: Case, size: int) -> str:
    """A size as the table and the block names show it: bytes, or of a crowd the number of connections."""
    if case.shape == "crowd":
        return str(size)
    if size >= 1024 and size % 1024 == 0:
        return f"{size // 1024}KiB"
    return f"{size}B" if size else "-"


@dataclass(frozen=True)
class Block:
    """One case at one size."""

    case: Case
    size: int

    @property
    def name(self) -> str:
        """The block's name on the command line, as c-rtt/8B."""
        return f"{self.case.name}/{size_label(self.case, self.size)}" if self.size else self.case.name


def blocks(preset: Preset, only: tuple[str, ...] = ()) -> list[Block]:
    """The blocks to run. `only`: case names, or beginnings of block names, whatever the preset.

    Raises KeyError with the word that names nothing.
    """
    everything = [Block(case, size) for case in CASES for size in case.sizes]
    if only:
        chosen = []
        for word in only:
            found = [block for block in everything if block.name == word or block.case.name == word]
            found = found or [block for block in everything if block.name.startswith(word)]
            if not found:
                raise KeyError(word)
            chosen += [block for block in found if block not in chosen]
        return chosen
    return [
        block
        for block in everything
        if block.case.detail <= preset.detail and (preset.detail or block.size in block.case.quick_sizes)
    ]
