"""Real servers with their own load generators."""

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
    _application("web-uvicorn", "nginx to uvicorn, connections kept", "web", "uvicorn", 1, 1000),
    _application("web-gunicorn", "nginx to gunicorn with threads, connections kept", "web", "gunicorn", 1, 1000),
    # A connection carries one request and need not be accelerated.
    _application("web-uwsgi", "nginx to uWSGI, a connection for each request", "web", "uwsgi", 0, 1000),
)
