"""Clients of tmux on pseudo-terminals: attach, type, resize, detach, be detached, be killed. Words: tmux, its socket."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

TMUX, PATH = sys.argv[1:]


def tmux(*words: str) -> str:
    done = subprocess.run([TMUX, "-S", PATH, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout.rstrip() + done.stderr.rstrip()


class Terminal:
    """A pseudo-terminal with a tmux client that is attached to a session."""

    def __init__(self, session: str, rows: int, columns: int):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.environ["TERM"] = "xterm"
            os.execv(TMUX, [TMUX, "-S", PATH, "attach-session", "-t", session])
        self.seen = b""
        self.read(b"\x1b[?1049h")  # whatever is typed before the client has set up its terminal may be lost

    def read(self, wanted: bytes, seconds: float = 30) -> None:
        """Read the screen's bytes until these have come; b"": to the end."""
        end = time.monotonic() + seconds
        while not wanted or wanted not in self.seen:
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise SystemExit(f"{wanted!r} is not in {self.seen[-2000:]!r}")
            try:
                part = os.read(self.fd, 65536)
            except OSError:
                part = b""
            if not part:
                if wanted:
                    raise SystemExit(f"ended before {wanted!r}: {self.seen[-2000:]!r}")
                return
            self.seen += part

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self, what: str) -> None:
        self.read(b"")
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        last = self.seen.replace(b"\r", b"").rstrip().rpartition(b"\n")[2].decode(errors="replace")
        print(what, status, last[last.rfind("["):])
        os.close(self.fd)


def wait_for(what: str, ready) -> None:
    end = time.monotonic() + 30
    while not ready():
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within 30 s\n{clients()}\n{tmux('list-panes', '-a')}\n"
                             f"{tmux('capture-pane', '-p', '-t', 'three:0')}")
        time.sleep(0.02)


def clients() -> str:
    return tmux("list-clients", "-F", "#{client_session} #{client_width}x#{client_height}")


def control_mode() -> None:
    """A client that speaks lines instead of a terminal's language: a command is sent when the one before is answered."""
    with subprocess.Popen([TMUX, "-S", PATH, "-C", "attach-session", "-t", "one"], stdin=subprocess.PIPE, text=True,
                          stdout=subprocess.PIPE, bufsize=1) as client:
        while not client.stdout.readline().startswith("%session-changed"):
            pass
        for command in ("list-sessions -F '#{session_name}'", "display-message -p words", "no-such-command", "list-commands",
                        *[f"display-message -p {i}" for i in range(200)]):
            print(command, file=client.stdin, flush=True)
            lines = []
            while not (line := client.stdout.readline()).startswith(("%end", "%error")):
                if not line.startswith("%"):
                    lines.append(line.strip())
            if not command.endswith(("1", "2", "3", "4", "5", "6", "7", "8", "9")):
                print("control mode", line.split()[0], lines)
        print("detach-client", file=client.stdin, flush=True)
        while not (line := client.stdout.readline()).startswith("%exit"):
            pass
    print("control mode", line.strip(), client.returncode)


control_mode()
tmux("new-session", "-d", "-s", "three", "-x", "80", "-y", "24", "cat")
first = Terminal("one", 30, 100)
wait_for("the client", lambda: clients() == "one 100x30")
first.type(b"echo typed $((2 + 3)) here\r")
first.read(b"typed 5 here")
print("typed, seen and captured", "typed 5 here" in tmux("capture-pane", "-p", "-t", "one:0"))
second = Terminal("three", 24, 80)
wait_for("two clients", lambda: len(clients().split("\n")) == 2)
print(sorted(clients().split("\n")))
second.type(b"some words\r")
wait_for("the words", lambda: "some words" in tmux("capture-pane", "-p", "-t", "three:0"))
second.resize(40, 120)
wait_for("the new size", lambda: "three 120x40" in clients())
print(tmux("display-message", "-p", "-t", "three:0", "#{window_width}x#{window_height}"))
first.type(b"i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo counting $i; done; echo the e''nd\r")
first.read(b"the end")
first.type(b"\x02d")
first.end("detached by its key:")
print(clients())
tmux("detach-client", "-s", "three")
second.end("detached by another:")
third = Terminal("three", 24, 80)
wait_for("the third", lambda: clients() == "three 80x24")
os.kill(third.pid, signal.SIGKILL)
third.read(b"")
os.waitpid(third.pid, 0)
os.close(third.fd)
wait_for("nobody", lambda: clients() == "")
print("after a killed client:", tmux("list-sessions", "-F", "#{session_name} #{session_attached}"))
fourth = Terminal("three", 24, 80)
wait_for("the fourth", lambda: clients() == "three 80x24")
tmux("kill-session", "-t", "three")
fourth.end("its session killed:")
fifth = Terminal("one", 24, 80)
wait_for("the fifth", lambda: clients() == "one 80x24")
fifth.type(b"exit\r")
wait_for("the shell's end", lambda: tmux("list-windows", "-t", "one", "-F", "#{window_name}") == "other")
fifth.type(b"\x04")
fifth.end("all its programs ended:")
print("left:", tmux("list-sessions", "-F", "#{session_name}"))
