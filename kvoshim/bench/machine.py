"""What the figures were taken on: they mean something only together with this."""

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


def stolen_seconds() -> float:
    """CPU seconds since boot that the hypervisor gave to others, over all CPUs."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else 0.0


def describe() -> dict[str, object]:
    """The machine and its software, for the head of the table and for the JSON."""
    return {
        "cpu": cpu_model(),
        "cpus": len(cpus()),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": first_line(os.environ.get("CC", "cc"), "--version"),
        "redis": first_line("redis-server", "--version"),
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
