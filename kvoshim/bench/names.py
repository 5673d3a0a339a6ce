"""One run of the registry, or of another way to find programs by name, by py/names.py."""

import sys

from kvoshim.bench.build import HERE
from kvoshim.bench.drivers import Context, timed
from kvoshim.bench.model import Case
from kvoshim.bench.peers import PEERS
from kvoshim.bench.processes import clean_environment, stage

DRIVER = HERE / "py" / "names.py"
SEARCHES, PROCESSES = 1000, 50  # where a case is about many


def command_line(context: Context, case: Case, size: int, placement: str, name: str, path: str) -> list:
    """size: names that are registered beside, or processes. case.take: "many" searches, or one."""
    over = PEERS[name].over if name in PEERS else "kvoshim"
    command = [sys.executable, DRIVER, "--over", over, "--mode", case.mode, "--path", path, "--size", str(size)]
    command += ["--seconds", str(2 * context.seconds)]
    if case.take == "many":
        command += ["--searches", str(SEARCHES), "--processes", str(PROCESSES)]
    own, others = context.placed(placement)
    return command if own is None else [*command, "--cpus", f"{own},{others}"]


def run(context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
    """Raises RunError."""
    with stage() as run:
        command = command_line(context, case, size, placement, subject, str(run.folder / "s"))
        driver = run.start("names", command, clean_environment())
        driver.wait(context.patience + 240)
        figures = driver.result()
        if case.shape == "idle":
            return figures | {"cpu_per_s": figures["cpu_s"] / figures["seconds"]}
        return timed(figures, case.shape)
