"""One run of the repository and the restarter of services, or of what else keeps programs alive, by py/services.py."""

import sys

from kvoshim.bench.build import HERE
from kvoshim.bench.drivers import Context, timed
from kvoshim.bench.model import Case
from kvoshim.bench.peers import PEERS
from kvoshim.bench.processes import clean_environment, stage

DRIVER = HERE / "py" / "services.py"


def run(context: Context, case: Case, size: int, placement: str, subject: str) -> dict[str, object]:
    """size: services, or transactions at a time. Raises RunError."""
    with stage() as run:
        over = PEERS[subject].over if subject in PEERS else "kvoshim"
        command = [sys.executable, DRIVER, "--over", over, "--mode", case.mode, "--path", str(run.folder / "s")]
        driver = run.start("services", [*command, "--size", str(size), "--seconds", str(context.seconds)], clean_environment())
        driver.wait(context.patience + 240)
        figures = driver.result()
        if case.shape == "idle":
            return figures | {"cpu_per_s": figures["cpu_s"] / figures["seconds"]}
        return timed(figures, case.shape)
