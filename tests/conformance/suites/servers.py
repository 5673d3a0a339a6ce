"""Real servers and real clients on Unix sockets: the scenes of `scenes/`, with the library on both sides or on one."""

from __future__ import annotations

import subprocess
import traceback

from conformance.obtain import debian
from conformance.scenes import mariadb, memcached, nginx
from conformance.scenes.scene import World
from conformance.suite import Result, Suite


class Scene(Suite):
    """A scene: a function of a World. Its module's PACKAGES says what to install (program -> Debian package)."""

    family = "servers"
    complete = True

    def __init__(self, module, function, sides: str, accelerates: int):
        self.module, self.function, self.sides = module, function, sides
        name = function.__name__.replace("_", "-")
        self.name = f"{self.family}/{name}" if sides == "both" else f"{self.family}/{name}-{sides}-only"
        where = {"both": "", "server": " (library in the server only)", "client": " (library in the clients only)"}[sides]
        self.about = function.__doc__.splitlines()[0].rstrip(".") + where
        self.accelerates = accelerates if sides == "both" else 0
        self.limit = 300

    def install(self) -> None:
        debian(**self.module.PACKAGES)
        if hasattr(self.module, "install"):
            self.module.install()

    def run(self, environment, directory, only=None) -> Result:
        world = World(environment, directory, self.sides)
        try:
            self.function(world)
            world.result.passed.add("the scene came to its end")
        except (AssertionError, subprocess.TimeoutExpired):
            world.result.failed.add("the scene came to its end")
            world.result.text += traceback.format_exc()
        for output in sorted(directory.glob("*.out")):
            world.result.text += f"\n== {output.name}\n{output.read_text(errors='replace')[-5000:]}"
        return world.result


SUITES = [Scene(module, function, sides, accelerates)
          for module in (nginx, memcached, mariadb)
          for function, accelerates, every in module.SCENES
          for sides in (("both", "server", "client") if every else ("both",))]
