"""The registry: finding a program by its name and being told of it, beside other ways to do that."""

from kvoshim.bench.model import CORE, Case, Target

ANY = ("any",)


def _case(name: str, title: str, mode: str, targets: tuple[Target, ...], **more) -> Case:
    chosen = {"shape": "trip", "sizes": (0,), "unit": "connections", "peers": ()} | more
    chosen["quick_sizes"] = chosen["sizes"]
    return Case(f"registry-{name}", title, "names", mode, shim=CORE, connections=0, placements=ANY, targets=targets, **chosen)


CASES = (
    _case("find", "finding by name, what is known already", "find", (
        Target("find", "cost", "<=", 5000, None, ANY), Target("find", "peer:redis-ttl", ">=", 10, None, ANY)),
        peers=("redis-ttl", "dbus-name", "nats-service", "zeroconf")),
    _case("ask", "finding by name, by asking", "ask", (Target("ask", "cost", "<=", 50_000, None, ANY),),
          peers=("redis-ttl", "dbus-name", "nats-service")),
    _case("tell", "register until another process is told", "tell", (Target("tell", "cost", "<=", 200_000, None, ANY),),
          peers=("redis-ttl", "dbus-name", "zeroconf")),
    _case("death", "kill -9 until another process is told", "death", (Target("death", "cost", "<=", 5e6, None, ANY),),
          peers=("redis-ttl", "dbus-name")),
    _case("many", "register until the last of 1,000 searches is told, among 10,000 names", "tell", (
        Target("many", "cost", "<=", 100e6, None, ANY),), sizes=(10_000,), take="many", detail=1),
    _case("idle", "10,000 names and 1,000 searches: CPU while nothing happens", "idle", (Target("many", "idle", "<=", 0.01),),
          sizes=(10_000,), take="many", shape="idle", detail=1),
    _case("election", "kill -9 of the registry until all processes are registered again", "election", (
        Target("election", "cost", "<=", 2e9, None, ANY),), sizes=(1000,), detail=1),
)
