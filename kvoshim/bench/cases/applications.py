"""Real servers with their own load generators."""

from dataclasses import replace

from kvoshim.bench.model import Case, Target


def _redis(name: str, mode: str, clients: int, pipeline: int, size: int, targets: tuple[Target, ...] = ()) -> Case:
    return Case(
        name,
        f"redis-benchmark {mode.upper()} -c {clients} -P {pipeline}",
        "redis",
        mode,
        "rate",
        sizes=(size,),
        quick_sizes=(size,),
        connections=clients,
        pipeline=pipeline,
        control="control-redis",
        targets=targets,
    )


def _application(name: str, title: str, program: str, mode: str, connections: int, size: int) -> Case:
    return Case(
        name,
        title,
        program,
        mode,
        "rate",
        sizes=(size,),
        quick_sizes=(size,),
        connections=connections,
        control="control-redis",
        detail=1,
        targets=(Target("application", "faster", ">=", 1.0),),
    )


def _web(server: str, how: str, connections: int) -> tuple[Case, Case]:
    """An application server behind nginx, and before it the kernel with itself: an interpreter's speed differs from start to start."""
    case = _application(f"web-{server}", f"nginx to {server}, {how}", "web", server, connections, 1000)
    control = replace(case, name=f"control-{case.name}", title=f"A/A control, {case.title}", shim="control", connections=0, targets=())
    return tuple(replace(one, control=control.name) for one in (control, case))


CASES = (
    Case(
        "control-redis",
        "A/A control, redis-benchmark: kernel, and kernel with a preload that does nothing (libm)",
        "redis",
        "get",
        "rate",
        sizes=(3,),
        quick_sizes=(3,),
        shim="control",
        control="control-redis",
    ),
    _redis(
        "redis-get-c1",
        "get",
        1,
        1,
        3,
        (Target("S15", "faster", ">=", 4, None, ("any",)), Target("S15", "best", ">=", 1.3, 2.5, ("any",))),
    ),
    _redis("redis-set-c1", "set", 1, 1, 3),
    _redis("redis-set-64k", "set", 50, 1, 65536, (Target("redis", "best", ">=", 1.5, 3, ("any",)),)),
    _redis("redis-set-64k-c1", "set", 1, 1, 65536),
    _redis("redis-get-c50", "get", 50, 1, 3, (Target("redis", "best", ">=", 1.5, 2.5, ("any",)),)),
    _redis("redis-set-c50", "set", 50, 1, 3),
    _redis("redis-get-p16", "get", 1, 16, 3),
    _redis("redis-get-c50-p16", "get", 50, 16, 3, (Target("redis", "best", ">=", 1.1, 1.5, ("any",)),)),
    Case(
        "pgbench",
        "pgbench -S -M prepared -c 1",
        "pgbench",
        "select",
        "rate",
        sizes=(0,),
        quick_sizes=(0,),
        control="control-redis",
        targets=(
            Target("S15", "faster", ">=", 2, None, ("any",)),
            Target("S15", "best", ">=", 1.1, 1.4, ("any",)),
        ),
    ),
    _application("memcached-c1", "memcached get, one client", "memcached", "get", 1, 100),
    _application("memcached-c50", "memcached get, 50 clients", "memcached", "get", 50, 100),
    _application("mariadb", "MariaDB, sysbench point SELECT", "mariadb", "select", 1, 0),
    *_web("uvicorn", "connections kept", 1),
    *_web("gunicorn", "with threads, connections kept", 1),
    # A connection carries one request and need not be accelerated.
    *_web("uwsgi", "a connection for each request", 0),
)
