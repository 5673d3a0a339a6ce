"""tmux: every command is a client of its server, and hands its terminal over as a descriptor."""

from __future__ import annotations

import concurrent.futures
import os
import shlex
from pathlib import Path

from conformance.obtain import program
from conformance.scenes.scene import World, listens, wait_for

PACKAGES = {"tmux": "tmux"}


class Server:
    """A tmux server that is asked by commands."""

    def __init__(self, world: World, path: Path):
        self.world, self.path, self.asked = world, path, 0

    def ask(self, *words: object, stdin: bytes | None = None, timeout: float = 60):
        self.asked += 1
        return self.world.ask([program("tmux"), "-S", self.path, *words], stdin=stdin, timeout=timeout, TERM="xterm",
                              TMUX="", LC_ALL="C.UTF-8")

    def step(self, *words: object, stdin: bytes | None = None) -> None:
        done = self.ask(*words, stdin=stdin)
        self.world.step(" ".join(map(str, words[:6]))[:60].replace(str(self.world.directory), "HERE"),
                        (done.status, done.out, done.err))

    def screen(self, target: str) -> str:
        return self.ask("capture-pane", "-p", "-t", target).out.decode().rstrip()

    def wait_screen(self, target: str, text: str) -> None:
        wait_for(f"{text!r} on {target}", lambda: text in self.screen(target))


def _sessions(tmux: Server) -> None:
    """Sessions, windows, keys, screens, options, hooks, bad commands."""
    shell = ["env", "PS1=$ ", "sh"]
    tmux.step("new-session", "-d", "-s", "one", "-x", "100", "-y", "30", *shell)
    tmux.step("new-session", "-d", "-s", "two", "-x", "80", "-y", "24", "cat")
    tmux.step("new-window", "-d", "-t", "one:", "-n", "other", "cat")
    tmux.step("split-window", "-d", "-t", "one:0", *shell)
    tmux.step("list-windows", "-a", "-F", "#{session_name} #{window_index} #{window_panes} #{window_layout}")
    tmux.wait_screen("one:0.0", "$")
    tmux.step("send-keys", "-t", "one:0.0", "echo $((6 * 7)) is the answer", "Enter")
    tmux.wait_screen("one:0.0", "42 is the answer\n$")
    tmux.step("capture-pane", "-p", "-t", "one:0.0")
    tmux.step("send-keys", "-t", "one:0.0", "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo line $i; done; echo d''one", "Enter")
    tmux.wait_screen("one:0.0", "done\n$")
    tmux.step("capture-pane", "-p", "-S", "-", "-t", "one:0.0")
    for words in ("rename-session -t two too", "has-session -t too", "has-session -t nothing", "resize-pane -t one:0.0 -y 10",
                  "set-option -g status off", "show-options -g status", "set-environment -g FOO bar", "show-environment -g FOO",
                  "no-such-command", "display-message -p #{version}", "select-layout -t one:0 even-horizontal",
                  "list-panes -s -t one -F #{pane_index}.#{pane_width}x#{pane_height}", "kill-pane -t one:0.1",
                  "run-shell 'echo from a shell'", "if-shell true 'display-message -p yes'", "list-commands"):
        tmux.step(*shlex.split(words))


def _buffers(tmux: Server) -> None:
    """Data from a client's standard input to the server, and back to a client's output."""
    for size in (0, 1, 5000, 16_384, 300_000, 3_000_000):
        data = (b"0123456789abcde\n" * (size // 16 + 1))[:size]
        tmux.step("load-buffer", "-b", f"b{size}", "-", stdin=data)
        tmux.step("save-buffer", "-b", f"b{size}", "-")
    tmux.step("list-buffers", "-F", "#{buffer_name} #{buffer_size}")
    for i in range(10):
        tmux.step("set-buffer", "-b", f"n{i}", "x" * 1000 * i)
    tmux.step("show-buffer", "-b", "n9")
    tmux.step("paste-buffer", "-b", "b5000", "-t", "too:0")
    tmux.wait_screen("too:0", "01234567")
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda i: tmux.ask("display-message", "-p", f"answer {i}").out, range(30)))
    tmux.world.step("many at once", answers)


def _waiting(tmux: Server) -> None:
    """Clients that wait for each other, or for nothing."""
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(tmux.ask, "wait-for", f"channel{i}") for i in range(3)]
        for i in range(3):
            tmux.step("wait-for", "-S", f"channel{i}")
        tmux.world.step("woken", [w.result().status for w in waiting])


def tmux(world: World) -> None:
    """tmux: sessions, screens, buffers, clients on pseudo-terminals, control mode, the server's end."""
    path = world.new_dir("t") / "tmux"
    cmd = [program("tmux"), "-D", "-S", path, "-f", "/dev/null"]
    with world.serve(cmd, TERM="xterm", TMUX="", LC_ALL="C.UTF-8", SHELL="/bin/sh", HOME=str(world.directory)) as server:
        server.wait_until(lambda: listens(path))
        os.chmod(path, 0o770)
        asked = Server(world, path)
        for part in (_sessions, _buffers, _waiting):
            part(asked)
        world.script("tmux_terminal", program("tmux"), path)
        asked.step("list-sessions", "-F", "#{session_name} #{session_attached}")
        asked.step("kill-server")
        world.step("server ended with", server.wait())
        asked.step("list-sessions")
    # The first messages of every client bring its terminal's descriptors, before anything was answered.
    world.refused(path, "client", "ancillary", asked.asked)


SCENES = [(tmux, 0, True)]
