"""curl's --unix-socket with a small HTTP server."""

from __future__ import annotations

import hashlib
import re
import socket
import sys

from conformance.obtain import program
from conformance.scenes.scene import PROGRAMS, World, listens

PACKAGES = {"curl": "curl"}


class Asker:
    def __init__(self, world: World, *way: object):
        self.world, self.way = world, way

    def step(self, name: str, *words: object, stdin: bytes | None = None) -> None:
        done = self.world.ask([program("curl"), "-s", "-S", "-m", "100", *self.way, *words], stdin=stdin, timeout=120)
        self.world.step(name, (done.status, len(done.out), hashlib.sha256(done.out).hexdigest()[:16],
                               re.sub(rb"after \d+ ms", b"", done.err)))


def _url(what: str) -> str:
    return f"http://here/{what}"


def _requests(asker: Asker) -> int:
    """Asks for all kinds of things; how many connections that takes."""
    opened, content = 0, asker.world / "content"
    content.write_bytes(b"uploaded\n" * 100_000)
    for size in (0, 1, 4096, 65_537, 1_000_000, 30_000_000):
        asker.step(f"get {size}", _url(f"bytes/{size}"))
        asker.step(f"post {size}", "--data-binary", "@-", "-H", "Expect:", _url("echo"), stdin=b"post\n" * (size // 5))
        opened += 2
    for name, *words in (("head", "-I", "-o", "/dev/null", "-w", "%{http_code} %{size_header}", _url("bytes/1000")),
                         ("chunks", _url("chunks/3000")), ("not there", "-w", "%{http_code}", _url("nothing")),
                         ("too little", _url("short/5000")),
                         ("redirect", "-L", "-w", "%{num_redirects} %{num_connects}", _url("redirect")),
                         ("part", "-r", "10-19", _url("bytes/100")), ("limited", "--limit-rate", "3M", _url("bytes/3000000")),
                         ("put", "-T", content, _url("put"))):
        asker.step(name, *words)
        opened += 1
    asker.step("many on one connection", "-w", "%{num_connects}\n", *[_url(f"bytes/{i * 100}") for i in range(100)])
    each = [("-o", asker.world / f"part{i}", _url(f"bytes/{1_000_000 + i}")) for i in range(20)]
    asker.step("many at once", "-Z", "--stderr", "/dev/null", "--parallel-immediate", "--parallel-max", "20",
               *[word for words in each for word in words])
    parts = [(asker.world / f"part{i}").read_bytes() for i in range(20)]
    asker.world.step("parts", [(len(p), hashlib.sha256(p).hexdigest()[:8]) for p in parts])
    return opened + 1 + 20


def curl(world: World) -> None:
    """curl --unix-socket and --abstract-unix-socket to Python's HTTP server."""
    home = world.new_dir("c")
    name = f"{world.directory}/abstract"
    for path, way in ((str(home / "http"), "--unix-socket"), (f"@{name}", "--abstract-unix-socket")):
        with world.serve([sys.executable, PROGRAMS / "unix_http.py", path]) as server:
            server.wait_until(lambda path=path: listens(path))
            opened = _requests(Asker(world, way, path.lstrip("@")))
        world.step("server ended with", server.process.returncode)
        # curl keeps no connection to an abstract name: a hundred requests take a hundred, and a redirection a second one.
        # Those with a short answer may be over before the client has seen an offer.
        world.opened(path, opened + 100 * path.startswith("@") - 8, "client", more=8)
    Asker(world, "--unix-socket", home / "http").step("server gone", _url("bytes/1"))
    Asker(world, "--unix-socket", home / "none").step("no socket", _url("bytes/1"))
    silent = home / "silent"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(silent))
        listener.listen()
        done = world.ask([program("curl"), "-s", "-m", "1", "--unix-socket", silent, _url("bytes/1")])
        world.step("a server that says nothing", (done.status, done.out))


SCENES = [(curl, 160, True)]
