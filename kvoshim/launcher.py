"""Starting programs with the preload library."""

import importlib.resources
import os
import shlex

LIBRARY = "libkvoshim.so"


def library_path():
    """Absolute path of the preload library (str). FileNotFoundError: the installation is incomplete."""
    path = str(importlib.resources.files("kvoshim") / LIBRARY)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} is missing: install kvoshim again (scripts/setup, or pip install kvoshim)")
    return path


def variables(paths="*", spin_us=None, ring_size=None, warmup=None, environment=None):
    """The variables that a shimmed program needs, as {name: value}.

    paths: globs as in KVOSHIM_PATHS. spin_us, ring_size, warmup: int, or None for the default. environment: the mapping whose
    LD_PRELOAD is kept behind ours (default: this process's).
    """
    environment = os.environ if environment is None else environment
    library = library_path()
    others = [p for p in environment.get("LD_PRELOAD", "").replace(":", " ").split() if p != library]
    result = {"LD_PRELOAD": ":".join([library, *others]), "KVOSHIM_PATHS": paths}
    if spin_us is not None:
        result["KVOSHIM_SPIN_US"] = str(spin_us)
    if ring_size is not None:
        result["KVOSHIM_RING_SIZE"] = str(ring_size)
    if warmup is not None:
        result["KVOSHIM_WARMUP"] = str(warmup)
    return result


def shell_lines(assignments):
    """export lines for a POSIX shell (str)."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in assignments.items())
