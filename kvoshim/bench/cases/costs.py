"""What the shim costs where it carries no bytes, and what many connections cost."""

from kvoshim.bench.model import CONTROL, CORE, Case, Target

# The calls that c/calls.c knows. select-500: on a descriptor with that number. dup-close: each counts as a call.
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


def _call(call: str) -> Case:
    return Case(
        f"call-{call}",
        f"{call} on a descriptor that is not ours",
        "calls",
        call,
        "call",
        sizes=(0,),
        quick_sizes=(0,),
        placements=("0-0",),
        control="control-call",
        targets=(Target("S13", "extra", "<=", 10, 5), Target("S13", "time", "<=", 1.05)),
    )


def _lock(name: str, title: str, threads: str) -> Case:
    return Case(
        name,
        title,
        "lock",
        threads,
        "call",
        sizes=(0,),
        quick_sizes=(0,),
        placements=("0-0",),
        shim=CORE,
        connections=0,
        targets=(Target("core", "cost", "<=", 15),),
    )


CASES = (
    Case(
        "control-call",
        "A/A control, a call: kernel, and kernel with a preload that does nothing (libm)",
        "calls",
        "read",
        "call",
        sizes=(0,),
        quick_sizes=(0,),
        placements=("0-0",),
        shim=CONTROL,
        connections=0,
        control="control-call",
    ),
    *map(_call, FOREIGN_CALLS),
    _lock("core-lock", "table look-up and lock, one thread", "1"),
    _lock("core-lock-threads", "table look-up and lock that is taken", "2"),
    Case(
        "idle-crowd",
        "C, many idle connections",
        "crowd",
        "idle",
        "crowd",
        sizes=(1000, 10000),
        quick_sizes=(1000,),
        unit="connections",
        placements=("0-0",),
        targets=(Target("crowd", "memory", "<=", 40 * 1024), Target("crowd", "idle", "<=", 0.0)),
    ),
)
