"""Starting a daemon of the project in the background (`--detach`), from any program."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from kvoshim.errors import LaunchError

READY, RUNS_ALREADY = 0, 3  # exit codes, as process.Exit has them
_TEXT_MAX = 500  # of what it said


def run(words: Sequence[str], timeout: float, without: Sequence[str] = (), pass_fds: Sequence[int] = ()) -> tuple[int, str]:
    """Runs a command that returns when its daemon is ready; returns its exit code and the end of what it said. It has nothing of
    this process but its environment, `without` some variables, and `pass_fds`. LaunchError if it cannot be run, or takes longer
    than `timeout`."""
    try:
        # Not a pipe: its end would come only when the daemon, too, has closed it.
        with open(os.memfd_create("kvoshim-said"), "r+b") as said:
            code = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                cwd="/",
                env=_environment(without),
                pass_fds=pass_fds,
                timeout=timeout,
                check=False,
            ).returncode
            said.seek(max(0, said.seek(0, os.SEEK_END) - _TEXT_MAX))
            return code, said.read().decode("utf-8", "replace").strip()
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise LaunchError(str(error)) from None


def _environment(without: Sequence[str] = ()) -> dict[str, str]:
    """This process's, for one that runs in another directory."""
    result = {name: value for name, value in os.environ.items() if name not in without}
    if os.path.basename(log := result.get("KVOSHIM_LOG_FILE", "")) and log not in ("-", "stderr"):
        result["KVOSHIM_LOG_FILE"] = os.path.abspath(log)
    return result
