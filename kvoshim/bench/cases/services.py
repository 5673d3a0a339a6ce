"""The repository and the restarter of services: committing, starting, starting again; beside other ways to keep programs alive."""

from kvoshim.bench.model import CORE, Case, Target

ANY = ("any",)
MIB = 1 << 20


def _case(name: str, title: str, mode: str, *targets: Target, **more) -> Case:
    chosen = {"shape": "trip", "sizes": (1,), "unit": "connections", "peers": ()} | more
    chosen["quick_sizes"] = chosen["sizes"]
    return Case(f"svc-{name}", title, "services", mode, shim=CORE, connections=0, placements=ANY, targets=targets, **chosen)


CASES = (
    _case("commit", "a transaction, on the disk", "commit", Target("commit", "peer:fsync", ">=", 1 / 1.3), peers=("fsync",)),
    _case("flight", "a transaction, 100 under way", "flight", Target("commit", "cost", "<=", 50_000), sizes=(100,), shape="rate"),
    _case("batch", "an operation, 100 in a transaction", "batch", Target("commit", "cost", "<=", 50_000), sizes=(100,), shape="rate"),
    _case("start", "until 200 services run", "start", Target("start", "peer:fork", ">=", 1 / 1.3), sizes=(200,),
          peers=("fork",), detail=1),
    _case("chains", "until 200 services run, each in a chain of 10", "chains", Target("start", "peer:fork", ">=", 1 / 1.3),
          sizes=(200,), peers=("fork",), detail=1),
    _case("restart", "kill -9 until the program runs again", "restart", Target("restart", "cost", "<=", 5e6),
          peers=("supervisord", "circus", "s6"), detail=1),
    _case("control", "p99 of the control channel's answer while 50 services fail again and again", "control",
          Target("control", "cost", "<=", 100e6), sizes=(50,), detail=1),
    _case("memory", "1,000 services: memory, and CPU while nothing happens", "memory", Target("memory", "spawner", "<=", MIB),
          Target("memory", "startd", "<=", 40 * MIB), Target("memory", "idle", "<=", 0.01), sizes=(1000,), shape="idle", detail=1),
)
