"""Xvfb with X's own programs: Xlib and XCB clients over its Unix socket, abstract or with a path."""

from __future__ import annotations

import concurrent.futures
import hashlib
import re
import signal
from pathlib import Path

from conformance.obtain import program
from conformance.scenes.scene import World, listens, wait_for

PACKAGES = {"Xvfb": "xvfb", "xdpyinfo": "x11-utils", "xwininfo": "x11-utils", "xprop": "x11-utils", "xlsfonts": "x11-utils",
            "xset": "x11-xserver-utils", "xrdb": "x11-xserver-utils", "xwd": "x11-apps", "xclock": "x11-apps",
            "xlsclients": "x11-utils", "x11perf": "x11-apps", "xterm": "xterm", "xdotool": "xdotool", "xclip": "xclip",
            "xkbcomp": "x11-xkb-utils"}


class Display:
    """A display that programs are run on."""

    def __init__(self, world: World, number: str):
        self.world, self.name = world, f":{number}"

    def ask(self, *words: object, stdin: bytes | None = None, timeout: float = 60):
        return self.world.ask([program(str(words[0])), *words[1:]], stdin=stdin, timeout=timeout, DISPLAY=self.name,
                              XAUTHORITY="/dev/null", LC_ALL="C", HOME=str(self.world.directory))

    def step(self, *words: object, stdin: bytes | None = None, digest: bool = False):
        done = self.ask(*words, stdin=stdin)
        out = re.sub(rb'".*:\d+[.0-9]*"|0x[0-9a-f]{6,}|name of display:.*', b"#", done.out)
        if digest:
            out = hashlib.sha256(done.out).hexdigest()[:16]
        self.world.step(" ".join(map(str, words))[:70].replace(self.name, ":N"),
                        (done.status, out, done.err.replace(self.name.encode(), b":N")))

    def stay(self, *words: object, **options):
        return self.world.stay([program(str(words[0])), *words[1:]], DISPLAY=self.name, XAUTHORITY="/dev/null", LC_ALL="C",
                               HOME=str(self.world.directory), **options)

    def window(self, name: str) -> str:
        """The ID of a window that comes to be shown."""
        wait_for(f"a window {name}", lambda: self.ask("xdotool", "search", "--onlyvisible", "--name", name).status == 0)
        return self.ask("xdotool", "search", "--onlyvisible", "--name", name).out.split()[0].decode()


def _look(display: Display) -> None:
    for words in ("xdpyinfo", "xdpyinfo -ext all", "xset q", "xlsfonts", "xwininfo -root", "xprop -root", "xlsclients",
                  "xwininfo -root -tree", "xdotool getdisplaygeometry"):
        display.step(*words.split())
    display.step("xkbcomp", display.name, "-", digest=True)
    display.step("xrdb", "-merge", stdin=b"Some.resource: a value\n" + b"Other.resource: %s\n" % (b"x" * 100_000))
    display.step("xrdb", "-query", digest=True)
    display.step("xprop", "-root", "-f", "_THING", "8s", "-set", "_THING", "a value")
    display.step("xprop", "-root", "_THING")
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: display.ask("xprop", "-root", "_THING").out, range(18)))
    display.world.step("many at once", answers)


def _windows(display: Display) -> None:
    """Programs with windows: keys typed into a terminal, a picture of a window, a selection, clients that are killed."""
    typed = display.world / "typed"
    with display.stay("xterm", "-T", "terminal", "-e", "sh", "-c", f"cat > {typed}"):
        window = display.window("terminal")
        display.ask("xdotool", "windowfocus", "--sync", window, timeout=30)
        # A key that comes before the terminal is ready is lost; so until one has been seen.
        def first_key() -> bool:
            display.ask("xdotool", "key", "a", "Return")
            return typed.exists() and b"a\n" in typed.read_bytes()
        wait_for("the first key", first_key)
        display.ask("xdotool", "type", "--delay", "5", "echo some words, typed\n")
        wait_for("the words", lambda: b"typed\n" in typed.read_bytes())
        display.world.step("typed", typed.read_bytes().lstrip(b"a\n"))
        done = display.ask("xprop", "-id", window, "WM_CLASS", "WM_NAME")
        display.world.step("its properties", (done.status, done.out))
    with display.stay("xclock", "-digital", "-update", "1000", "-geometry", "200x50+10+20", "-name", "clock",
                      "-strftime", "time"):
        window = display.window("clock")
        display.ask("xdotool", "windowmove", "--sync", window, "100", "50", timeout=30)
        done = display.ask("xwininfo", "-id", window)
        display.world.step("a window's place", re.findall(rb"(?:Absolute|Width|Height|Depth).*", done.out))
        pictures = {len(display.ask("xwd", "-id", window).out) for _ in range(5)}
        display.world.step("pictures of it", pictures)
    picture = display.ask("xwd", "-root")
    digest = hashlib.sha256(picture.out[200:]).hexdigest()[:16]
    display.world.step("picture of the screen", (picture.status, len(picture.out), digest))
    text = b"selected words\n" * 40_000
    with display.stay("xclip", "-quiet", "-i", "-selection", "clipboard", _file(display.world, text)) as owner:
        wait_for("the selection", lambda: display.ask("xclip", "-o", "-selection", "clipboard").out[:8] == b"selected")
        display.step("xclip", "-o", "-selection", "clipboard", digest=True)
        owner.process.kill()
    for _ in range(3):
        with display.stay("xclock", "-name", "victim", stop_signal=signal.SIGKILL):
            display.window("victim")
        wait_for("the window's end", lambda: display.ask("xdotool", "search", "--name", "victim").status)


def _file(world: World, content: bytes) -> Path:
    path = world / "content"
    path.write_bytes(content)
    return path


def _load(display: Display) -> None:
    """x11perf: that each kind of request is served many times; how often is not compared."""
    done = display.ask("x11perf", "-repeat", "1", "-time", "1", "-noop", "-prop", "-putimage500", "-shmput500", "-getimage500",
                       "-shmget500", "-copywinwin100", timeout=120)
    kinds = re.findall(r"^\s*\d+ reps @.*?sec\): (.*)$", done.out.decode(), re.M)
    display.world.step("x11perf", (done.status, sorted(set(kinds)), done.err))


def _x(world: World, abstract: bool) -> None:
    """The clients take the abstract name where the server listens on it, else the path."""
    # -displayfd: the server takes a free number, and says which once it listens.
    cmd = ["sh", "-c", 'exec "$@" -displayfd 3 3> number', "sh", program("Xvfb"), "-screen", "0", "1024x768x24",
           "-nolisten", "tcp", "-noreset", "-ac", *([] if abstract else ["-nolisten", "local"])]
    with world.serve(cmd, cwd=world.directory) as server:
        number = world / "number"
        server.wait_until(lambda: number.exists() and number.read_text().endswith("\n"))
        display = Display(world, number.read_text().strip())
        path = f"/tmp/.X11-unix/X{number.read_text().strip()}"
        world.step("listens", (listens(path), listens(f"@{path}")))
        for part in (_look, _windows, _load):
            part(display)
        with display.stay("xclock", "-name", "left") as left:
            display.window("left")
            server.process.terminate()
            world.step("server ended with", server.wait())
            world.step("a client without its server", left.wait())
        left.output.write_text("")
    world.step("nothing is left", Path(path).exists())
    name, got = (f"@{path}" if abstract else path), 60
    if world.log and world.sides == "both":
        got = world.log.wait_accelerated(60, "client", path=name)
    elif world.log:
        got = 60 + world.log.accelerated(path=name)
    right = got >= 60 if world.sides == "both" else got == 60
    world.step("at least sixty connections accelerated, none with the library on one side", right)


def xvfb(world: World) -> None:
    """Xvfb on its abstract name, with Xlib and XCB clients: queries, windows, keys, selections, images, shared memory."""
    _x(world, True)


def xvfb_path(world: World) -> None:
    """Xvfb on the path alone, with the same clients."""
    _x(world, False)


SCENES = [(xvfb, 60, True), (xvfb_path, 60, False)]
