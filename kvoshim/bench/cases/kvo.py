"""Key-Value Observation: from set() to the callback, beside other ways to tell of changes."""

from kvoshim.bench.model import CORE, Case, Target

PEERS = ("wake", "redis-pubsub", "zmq-pubsub", "iceoryx2-event", "iceoryx2-board", "dbus-signal", "nats-watch", "manager")
MANY = ("redis-pubsub", "zmq-pubsub")
ANY, APART = ("any",), ("0-1",)


def _case(name: str, title: str, mode: str, shape: str, sizes: tuple[int, ...], targets: tuple[Target, ...], **more) -> Case:
    chosen = {"quick_sizes": sizes, "placements": ANY, "api": "kvoshim", "peers": PEERS} | more
    return Case(name, title, "observation", mode, shape, sizes=sizes, shim=CORE, connections=0, targets=targets, **chosen)


CASES = (
    _case("kvo-asleep", "set to callback, all asleep", "asleep", "trip", (64,), (
        Target("K1", "peer:redis-pubsub", ">=", 4, 6, ANY), Target("K1", "peer:iceoryx2-board", ">=", 1.2, None, ANY)),
        placements=("0-1", "any")),
    _case("kvo-controller", "set to callback through the controller, all asleep", "asleep", "trip", (64,), (
        Target("controller", "peer:third", ">=", 0.667, 0.833, ANY), Target("controller", "peer:redis-pubsub", ">=", 2, None, ANY)),
        api="controller", peers=("third", "redis-pubsub")),
    _case("kvo-hot", "set to callback, the observer awake", "hot", "trip", (64,), (
        Target("K2", "cost", "<=", 5000, 3300), Target("K2", "peer:redis-pubsub", ">=", 20)),
        placements=APART, peers=("redis-pubsub", "zmq-pubsub")),
    _case("kvo-sets", "changes a second, of which the observer has the newest", "rate", "rate", (64,), (
        Target("K3", "cost", "<=", 1429, 667), Target("K3", "peer:redis-pubsub", ">=", 80)),
        placements=APART, peers=("redis-pubsub",)),
    _case("kvo-every", "changes a second, each delivered", "every", "rate", (64,), (
        Target("K4", "peer:zmq-pubsub", ">=", 1.2), Target("K4", "cost", "<=", 1000, 500)),
        placements=APART, peers=("zmq-pubsub",)),
    _case("kvo-get", "reading a value", "get", "trip", (8, 1024, 65536), (
        Target("K5", "cost", "<=", 400, None, ANY, (8,)), Target("K5", "cost", "<=", 600, None, ANY, (1024,)),
        Target("K5", "cost", "<=", 3000, None, ANY, (65536,)), Target("K5", "peer:redis-pubsub", ">=", 140, None, ANY, (8,)),
        Target("K5", "peer:iceoryx2-board", ">=", 2.5, None, ANY)),
        peers=("redis-pubsub", "nats-watch", "iceoryx2-board", "manager", "wake")),
    Case("kvo-read", "reading a value in C", "read", "inner", "call", sizes=(8,), quick_sizes=(8,), placements=("0-0",), shim=CORE,
         connections=0, targets=(Target("K6", "cost", "<=", 10, 3),)),
    _case("kvo-one-process", "100 observers in one process: a callback", "asleep", "trip", (100,), (
        Target("K7", "cost", "<=", 500, 200),), unit="connections", take="one process", peers=MANY),
    _case("kvo-processes", "observers in processes of their own: set to the last callback", "asleep", "trip", (10, 100), (
        Target("K9", "cost", "<=", 200_000, 130_000, ANY, (10,)), Target("K8", "cost", "<=", 2_000_000, 1_200_000, ANY, (100,)),
        Target("K8", "peer:redis-pubsub", ">=", 3.5, None, ANY, (100,)), Target("K8", "peer:zmq-pubsub", ">=", 2, None, ANY, (100,))),
        unit="connections", take="processes", peers=("wake", *MANY)),
    _case("kvo-alone", "set() with nobody who observes", "alone", "call", (64,), (Target("K10", "cost", "<=", 600),), peers=()),
    _case("kvo-awake", "set() with an observer who is awake", "awake", "trip", (64,), (Target("K10", "cost", "<=", 800),),
          placements=APART, peers=()),
    _case("kvo-attribute", "assigning an attribute of an @observable object", "attribute", "call", (8,), (
        Target("attribute", "cost", "<=", 1000, 600),), peers=()),
    _case("kvo-set-among", "set() of a key among 100,000, of which 1,000 are observed", "among-set", "call", (64,), (
        Target("many keys", "peer:one-key", ">=", 0.909, 0.97), Target("many keys", "held", "<=", 1023)),
        api="many", peers=("one-key",)),
    _case("kvo-get-among", "get() of a key among 100,000, of which 1,000 are observed", "among-get", "call", (64,), (
        Target("many keys", "peer:one-key", ">=", 0.909, 0.97),), api="many", peers=("one-key",)),
    _case("kvo-asleep-among", "set to callback of a key among 100,000, of which 1,000 more are observed, all asleep", "asleep", "trip",
          (64,), (), api="many", peers=("one-key",)),
)
