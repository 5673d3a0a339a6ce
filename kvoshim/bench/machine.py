"""What the figures were taken on: they mean something only together with this."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path


def cpus() -> list[int]:
    """The CPUs that this process may use, in order."""
    return sorted(os.sched_getaffinity(0))


def cpu_model() -> str:
    """The processor's name as the kernel gives it (x86: model name; others: the machine type)."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "cpu model"):
            return value.strip()
    return platform.machine()


def first_line(*command: str) -> str | None:
    """The first line that a command prints; None if it is not there or fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    lines = done.stdout.splitlines()
    return lines[0] if done.returncode == 0 and lines else None


# Whose version makes a difference to the figures.
PACKAGES = ("kvoshim", "Cython", "pyzmq", "pynng", "iceoryx2", "uvloop", "uvicorn", "gunicorn", "matplotlib")
PROGRAMS = {
    "redis": ("redis-server", "--version"),
    "postgres": ("psql", "--version"),
    "mariadb": ("mariadb", "--version"),
    "memcached": ("memcached", "--version"),
    "sysbench": ("sysbench", "--version"),
}


def versions() -> dict[str, str]:
    """What is installed of the packages and programs that are measured or compared with."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    for name, command in PROGRAMS.items():
        if line := first_line(*command):
            found[name] = line
    return found


def content(path: str) -> str | None:
    """A small file of the kernel's; None if it has none."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def cpu_facts() -> dict[str, object]:
    """What else the processor's figures depend on: a hypervisor below, how its clock is governed, how large its caches are."""
    first = "/sys/devices/system/cpu/cpu0"
    caches = {}
    for folder in sorted(Path(first, "cache").glob("index*")):
        kind = content(f"{folder}/type")
        if kind != "Instruction":
            caches[f"L{content(f'{folder}/level')}"] = content(f"{folder}/size")
    return {
        "virtual": " hypervisor" in (content("/proc/cpuinfo") or ""),
        "governor": content(f"{first}/cpufreq/scaling_governor"),
        "threads_of_cpu_0": content(f"{first}/topology/thread_siblings_list"),
        "caches": caches,
        "clock": content("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
    }


def stolen_seconds() -> float:
    """CPU seconds since boot that the hypervisor gave to others, over all CPUs."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else 0.0


def describe() -> dict[str, object]:
    """The machine and its software, for the head of the table and for the JSON."""
    return {
        "cpu": cpu_model(),
        "cpus": len(cpus()),
        **cpu_facts(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": first_line(os.environ.get("CC", "cc"), "--version"),
        "versions": versions(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "executable": sys.executable,
        "settings": {
            name: value for name, value in sorted(os.environ.items()) if name.startswith("KVOSHIM_")
        },
    }


class Load:
    """How busy the machine was besides: load average at the start, stolen CPU over the run."""

    def __init__(self) -> None:
        self.before = os.getloadavg()[0]
        self.started = time.monotonic()
        self.stolen = stolen_seconds()

    def summary(self) -> dict[str, float]:
        """Load average before and after (processes), stolen share of all CPU time (0 to 1), seconds."""
        seconds = time.monotonic() - self.started
        share = (stolen_seconds() - self.stolen) / (seconds * (os.cpu_count() or 1)) if seconds > 0 else 0.0
        return {
            "load_before": self.before,
            "load_after": os.getloadavg()[0],
            "stolen_share": share,
            "seconds": seconds,
        }
