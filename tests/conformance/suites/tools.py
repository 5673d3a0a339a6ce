"""Tools on Unix sockets, with their own clients: relays, a terminal multiplexer, an agent, a downloader."""

from __future__ import annotations

from conformance.scenes import agent, curl, relays, tmux
from conformance.suites.servers import Scene


class Tool(Scene):
    family = "tools"


SUITES = [Tool(module, function, sides, accelerates)
          for module in (relays, agent, tmux, curl)
          for function, accelerates, every in module.SCENES
          for sides in (("both", "server", "client") if every else ("both",))]
