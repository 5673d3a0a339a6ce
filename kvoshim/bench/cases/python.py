"""One connection between two Python programs."""

from kvoshim.bench.model import ENDS, Case, Target

PEERS = ("mmap", "mp-pipe", "pyzmq", "pynng", "iceoryx2")


def _loop(name: str, title: str, api: str, shim: str) -> Case:
    return Case(
        name,
        f"Python round trip, {title}",
        "loops",
        "rtt",
        sizes=ENDS,
        quick_sizes=(8,),
        api=api,
        shim=shim,
        targets=(Target("P6", "time", "<=", 0.6, 0.3, ("0-1",), (8,)),),
    )


CASES = (
    Case(
        "py-rtt",
        "Python round trip: socket, kvoshim.socket",
        "python",
        "rtt",
        shim="module",
        ring="rtt",
        peers=PEERS,
        targets=(
            Target("P1", "faster", ">=", 30, None, ("0-1",), (8,)),
            Target("P1", "peer:mmap", ">=", 1, None, ("0-1",), (8,)),
            Target("P1", "peer:pyzmq", ">=", 70, None, ("0-1",), (8,)),
            Target("P1", "peer:iceoryx2", ">=", 5, None, ("0-1",), (8,)),
            Target("P2", "faster", ">=", 2.5, 3.3, ("0-1",), (65536,)),
        ),
    ),
    Case(
        "py-oneway",
        "Python one way: socket, kvoshim.socket",
        "python",
        "oneway",
        "rate",
        shim="module",
        ring="oneway",
        peers=PEERS,
        control="control-rate",
        targets=(
            Target("P3", "faster", ">=", 3.5, None, ("0-1",), (8,)),
            Target("P3", "peer:pyzmq", ">=", 1.8, None, ("0-1",), (8,)),
            Target("P4", "peer:pyzmq", ">=", 9, None, ("0-1",), (65536,)),
            Target("P4", "faster", ">=", 1.6, 2.1, ("0-1",), (65536,)),
        ),
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
        control="control-rate",
        detail=2,
    ),
    Case(
        "py-paced",
        "Python, a request every 1 ms: socket, kvoshim.socket",
        "python",
        "paced",
        sizes=(8,),
        quick_sizes=(8,),
        shim="module",
        control="control-paced",
        targets=(Target("P5", "time", "<=", 1.1, 0.7),),
    ),
    _loop("aio-streams", "asyncio streams", "asyncio-streams", "module"),
    _loop("aio-protocol", "asyncio protocol", "asyncio-protocol", "module"),
    _loop("aio-preload", "asyncio streams, bare and preloaded", "asyncio-streams", "preload"),
    _loop("uvloop-preload", "uvloop streams, bare and preloaded", "uvloop-streams", "preload"),
    _loop("uvloop-protocol", "uvloop protocol, bare and preloaded", "uvloop-protocol", "preload"),
)
