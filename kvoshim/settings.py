"""Every environment variable of the project, in one table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """One environment variable: name, default as the user would write it, and what it does."""

    name: str
    default: str
    meaning: str


VARIABLES = (
    Variable("KVOSHIM_PATHS", "", "socket paths to accelerate: globs separated by spaces or colons, '*' for all, a "
             "leading '@' for abstract names; a backslash makes a space or colon part of a path"),
    Variable("USE_TSSX", "", "older name of KVOSHIM_PATHS, read when that is not set"),
    Variable("KVOSHIM_RING_SIZE", "262144", "bytes of each of a connection's two rings, 4096 to 67108864, rounded up "
             "to a power of two; the server's value counts"),
    Variable("KVOSHIM_SPIN_US", "50", "longest spin before sleeping, in microseconds, 0 to 1000000; 0: never spin"),
    Variable("KVOSHIM_WARMUP", "4", "calls that move bytes on each end of a connection before it gets a segment, 0 to "
             "1000000; short connections cost less so"),
    Variable("KVOSHIM_LOG", "", "'debug': log what was accelerated, and why not; a daemon's log level: debug, info, warning, "
             "error"),
    Variable("KVOSHIM_LOG_FILE", "", "file that the log is appended to; '-' or 'stderr': standard error"),
    Variable("KVOSHIM_STATS", "on", "'off': keep no statistics segment for `kvoshim connections`"),
    Variable("XDG_RUNTIME_DIR", "", "directory for the sockets of your daemons, in its folder kvoshim; else /tmp/kvoshim-UID"),
    Variable("XDG_CACHE_HOME", "~/.cache", "an installed package's benchmark compiles its drivers below this directory"),
    Variable("NOTIFY_SOCKET", "", "set by a service manager that a daemon is to tell when it is ready (sd_notify)"),
    Variable("WATCHDOG_USEC", "", "set by a service manager that wants signs of life so often, in microseconds"),
    Variable("WATCHDOG_PID", "", "the process that WATCHDOG_USEC is meant for"),
    Variable("KVOSHIM_CONTROLLER", "", "socket path of the observation controller, instead of the user's own"),
    Variable("KVOSHIM_REGISTRY", "user", "which registry: user, host, private:DIR or semi-private:DIR; `kvoshim registry private` "
             "sets it for its children"),
    Variable("KVOSHIM_SERVICES", "", "directory of the repository of services, instead of the user's own"),
    Variable("XDG_STATE_HOME", "~/.local/state", "the repository of services is below it, in kvoshim/services"),
    Variable("KVOSHIM_REGISTRY_CONFIG", "/etc/kvoshim/registry.json", "the global file that says where the registry of all users of a "
             "host is, and which remote registries it shows"),
    Variable("KVOSHIM_INSTANCE", "", "set by the restarter: the instance that a process belongs to"),
    Variable("KVOSHIM_MAIN_PID", "", "set by the restarter for the other methods of a service: its main process"),
    Variable("KVOSHIM_EXIT_CODE", "", "set by the restarter for the method finish: how the main process ended; empty: by a signal"),
    Variable("KVOSHIM_EXIT_SIGNAL", "", "set by the restarter for the method finish: the signal that ended it, or empty"),
)
