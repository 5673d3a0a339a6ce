"""ssh-agent with OpenSSH's own clients and a raw one. Debian's ssh-agent is setgid: no library is ever loaded into it."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import re
import shutil
import signal
import stat
import subprocess
from pathlib import Path

from conformance.obtain import once, program
from conformance.scenes.scene import World, listens
from conformance.suite import Unavailable

PACKAGES = {name: "openssh-client" for name in ("ssh-agent", "ssh-add", "ssh-keygen")}
_KINDS = ("ed25519", "rsa", "ecdsa")


def install() -> None:
    """Keys, the same for all runs, so that fingerprints and signatures can be compared."""
    _keys()


def _keys() -> Path:
    with once("ssh-keys") as (folder, fresh):
        for kind in _KINDS if fresh else ():
            done = subprocess.run([program("ssh-keygen"), "-q", "-t", kind, "-N", "", "-C", f"a key of kind {kind}", "-f",
                                   folder / kind], capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if done.returncode:
                raise Unavailable(f"ssh-keygen failed: {done.stderr}")
        return folder


class Agent:
    """What is asked of an agent behind a socket."""

    def __init__(self, world: World, path: Path):
        self.world, self.path = world, path
        self.asker = world / "asker"
        self.asker.write_text("#!/bin/sh\necho a password\n")
        self.asker.chmod(0o755)
        self.keys = world.new_dir("keys")
        for kind in _KINDS:
            shutil.copy(_keys() / kind, self.keys)
            shutil.copy(_keys() / f"{kind}.pub", self.keys)
            (self.keys / kind).chmod(0o600)
            (self.keys / f"{kind}.signers").write_text(f"somebody {(self.keys / f'{kind}.pub').read_text()}")
        os.chmod(self.keys, 0o700)

    def ask(self, *words: object, tool: str = "ssh-add", stdin: bytes | None = None):
        return self.world.ask([program(tool), *words], stdin=stdin, SSH_AUTH_SOCK=str(self.path), SSH_ASKPASS=str(self.asker),
                              SSH_ASKPASS_REQUIRE="force", HOME=str(self.world.directory), DISPLAY="none")

    def add(self, *words: object) -> None:
        done = self.ask(*words)
        self.world.step(f"ssh-add {' '.join(Path(str(w)).name for w in words)}", (done.status, done.out, done.err))

    def sign(self, kind: str, text: bytes) -> tuple:
        """Status, whether the signature is right, and itself where the kind always gives the same."""
        done = self.ask("-q", "-Y", "sign", "-n", "conformance", "-f", self.keys / f"{kind}.pub", tool="ssh-keygen", stdin=text)
        if done.status:
            return done.status, done.out, done.err
        signature = self.world / f"signature-{kind}-{hashlib.sha256(text).hexdigest()}"
        signature.write_bytes(done.out)
        right = self.ask("-Y", "verify", "-n", "conformance", "-I", "somebody", "-f", self.keys / f"{kind}.signers",
                         "-s", signature, tool="ssh-keygen", stdin=text)
        return done.status, right.status, right.out, done.out if kind != "ecdsa" else "", done.err


def _session(world: World, cmd: list, home: Path, path: Path) -> None:
    with world.serve([*cmd, "-D", "-a", path], cwd=home) as server:
        server.wait_until(lambda: listens(path))
        agent = Agent(world, path)
        agent.add("-l")
        for kind in _KINDS:
            agent.add(agent.keys / kind)
        for words in ("-l", "-L", "-l -E md5"):
            agent.add(*words.split())
        for kind in _KINDS:
            for text in (b"", b"short", bytes(3_000_000)):
                world.step(f"sign {len(text)} bytes by {kind}", agent.sign(kind, text))
        agent.add("-T", *(agent.keys / f"{kind}.pub" for kind in _KINDS))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            signed = list(pool.map(lambda i: agent.sign("ed25519", b"text %d" % i), range(24)))
        world.step("many at once", sorted(signed, key=str))
        agent.add("-d", agent.keys / "rsa")
        agent.add("-d", agent.keys / "rsa")
        (agent.keys / "rsa").unlink()
        world.step("sign without a key", agent.sign("rsa", b"text")[0])
        agent.add("-x")
        agent.add("-l")
        agent.add("-x")
        agent.add("-X")
        agent.add("-l")
        agent.add("-q", "-t", "100", "-c", agent.keys / "ed25519")
        agent.add("-D")
        agent.add("-l")
        world.script("agent_client", path)
        agent.add("-l")
        os.kill(server.pid, signal.SIGKILL)
        world.step("killed agent", server.wait())
        agent.add("-l")
        world.step("sign without an agent", re.sub(rb"/\S+", b"", agent.sign("ed25519", b"text")[2]))


def ssh_agent(world: World) -> None:
    """ssh-agent as Debian has it (setgid, so that it stays plain) with ssh-add and ssh-keygen."""
    home = world.new_dir("a")
    path = home / "agent"
    world.step("the agent is setgid", bool(os.stat(program("ssh-agent")).st_mode & stat.S_ISGID))
    _session(world, [program("ssh-agent")], home, path)
    if world.log:
        world.step("accelerated", world.log.accelerated())
    else:
        world.step("accelerated", 0)


def ssh_agent_copy(world: World) -> None:
    """A copy of ssh-agent without its setgid bit, under the library, with ssh-add and ssh-keygen."""
    home = world.new_dir("a")
    path, copy = home / "agent", home / "ssh-agent"
    shutil.copyfile(program("ssh-agent"), copy)
    copy.chmod(0o755)
    _session(world, [copy], home, path)
    # Three ssh-add fork before they have an answer, to ask for a password; a connection goes back to the kernel for that.
    world.opened(path, 103, "client")


SCENES = [(ssh_agent, 0, False), (ssh_agent_copy, 103, True)]
