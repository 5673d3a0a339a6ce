"""One run of Key-Value Observation, or of another way to tell of changes, by py/notify.py."""

import sys

from kvoshim.bench.build import HERE
from kvoshim.bench.drivers import Context, timed
from kvoshim.bench.model import Case
from kvoshim.bench.peers import PEERS
from kvoshim.bench.processes import clean_environment, stage

DRIVER = HERE / "py" / "notify.py"


def command_line(context: Context, case: Case, size: int, placement: str, name: str, path: str) -> list:
    """The publisher's, who starts the observers. case.api: which way kvoshim's changes take; the size is in bytes, or a number of
    observers."""
    over = PEERS[name].over if name in PEERS else case.api
    observers = size if case.unit == "connections" else 1
    command = [sys.executable, DRIVER, "--over", over, "--mode", case.mode, "--path", path]
    command += ["--size", str(64 if case.unit == "connections" else size), "--observers", str(observers)]
    command += ["--processes", str(observers if case.take == "processes" else 1), "--seconds", str(2 * context.seconds)]
    publisher, observer = context.placed(placement)
    return command if publisher is None else [*command, "--cpus", f"{publisher},{observer}"]


def run(context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
    """From a change until the last observer is told. Raises RunError."""
    with stage() as run:
        command = command_line(context, case, size, placement, subject, str(run.folder / "s"))
        publisher = run.start("publisher", command, clean_environment())
        publisher.wait(context.patience + 60)
        figures = timed(publisher.result(), case.shape)
        if case.unit == "connections" and case.take == "one process":
            figures["time_ns"] /= size  # of one callback
        return figures
