"""Runs the two ends of stress.c against each other, and says what happened.

A run that does not end in time is a lost wake-up: before the processes are ended, their stacks, wait channels and the
shared segments that they map are written into the report.
"""

import os
import random
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import shimlib

from kvoshim import launcher

HERE = Path(__file__).parent
THREAD_MODES = ("block", "try", "poll", "select", "lt", "et", "oneshot")
LOOP_MODES = ("poll", "select", "lt", "et", "oneshot")
# Seconds beyond the run's own length after which it counts as hung; with a sanitizer all is many times slower.
GRACE = 90 if "SANITIZER" in os.environ else 30


def build(directory):
    """Compiles stress.c into a directory; the program's path."""
    program = Path(directory) / "stress"
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-g", "-Wall", "-Wextra", "-pthread", "-o", program,
                    HERE / "stress.c"], check=True)
    return program


@dataclass(frozen=True)
class End:
    """How one end reads, writes and paces itself; shimmed: it runs under the preload library."""

    shape: str = "threads"
    read: str = "block"
    write: str = "block"
    writers: int = 1
    pace: str = "mixed"
    signals: int = 0
    shimmed: bool = True
    fault: str = "none"

    def words(self):
        names = ("shape", "read", "write", "writers", "pace", "signals", "fault")
        return [f"{name}={getattr(self, name)}" for name in names]


@dataclass(frozen=True)
class Case:
    """One run. ring: bytes; spin: microseconds or None for the default; budget: most bytes of each of many short
    connections, 0 for one long one; most: largest message."""

    server: End = End()
    client: End = End()
    ring: int = 4096
    spin: int | None = None
    budget: int = 0
    most: int = 200 << 10
    seed: int = 1
    seconds: float = 1.0

    @property
    def warmup(self):
        """Calls before the switch; short connections switch at once, or they never would."""
        return 0 if 0 < self.budget < 10000 else (0, 0, 1, 4)[self.seed % 4]

    def __str__(self):
        def side(end):
            text = f"{end.shape}-{end.read}-{end.write}" if end.shape in ("threads", "procs") else f"{end.shape}-{end.read}"
            text += f"x{end.writers}" if end.writers > 1 else ""
            text += "" if end.pace == "mixed" else f"-{end.pace}"
            return text + ("-signals" if end.signals else "") + ("" if end.shimmed else "-plain")
        text = f"{side(self.server)}:{side(self.client)}:ring{self.ring}:spin{'' if self.spin is None else self.spin}"
        return text + (f":budget{self.budget}" if self.budget else "") + f":most{self.most}:seed{self.seed}"


@dataclass
class Outcome:
    """good, wrong (a check failed in an end), or hung; text: what the ends and the dump say."""

    verdict: str
    text: str = ""
    totals: dict = field(default_factory=dict)
    accelerated: int = 0


def random_case(seed, seconds=1.0):
    """A case drawn from a seed."""
    r = random.Random(seed)
    shape = r.choice(("threads", "threads", "loop", "loop", "procs", "echo", "echo"))

    def end():
        mine = shape if shape == "echo" else r.choice((shape, shape, "threads", "loop"))
        modes = LOOP_MODES if mine == "loop" else THREAD_MODES
        return End(mine, r.choice(modes), r.choice(THREAD_MODES), 2 if mine == "threads" and r.random() < 0.3 else 1,
                   r.choice(("hot", "mixed", "mixed", "slow-read", "slow-write")), int(r.random() < 0.15))
    server, client = end(), end()
    if r.random() < 0.06:
        server = replace(server, shimmed=False)
    elif r.random() < 0.06:
        client = replace(client, shimmed=False)
    return Case(server, client, r.choice((4096, 4096, 8192, 65536, 262144)), r.choice((0, None, None, 5, 2000)),
                r.choice((0, 0, 1, 200, 20000, 300000)), r.choice((16, 600, 5000, 200 << 10, 200 << 10)), seed, seconds)


# ---- what a hung process shows ----

LAYOUT = (HERE.parents[1] / "pyx/kvoshim/layout.h").read_text()
LINE = 64
SIDE_BYTES = LINE * int(re.search(r"sizeof\(struct kvo_side\) == (\d+) \* KVO_LINE", LAYOUT)[1])
SIDES, NEWS = (int(re.search(rf"KVO_AT\(struct kvo_header, {name}, (\d+)\)", LAYOUT)[1]) for name in ("side", "news"))
WIDE = ("cut", "head", "kernel_read", "head_cache", "kernel_sent", "tail_cache", "put", "promised")  # 64 bits
SIDE = {name: (int(offset), "Q" if name in WIDE else "I")
        for name, offset in re.findall(r"KVO_AT\(struct kvo_side, (\w+), (\d+)\)", LAYOUT)}


def segments(pid):
    """The segments that a process maps, as text."""
    lines = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            if "memfd:kvoshim" not in line:
                continue
            memory.seek(int(line.split("-")[0], 16))
            page = memory.read(4096)
            lines.append(f"  segment: ring_bytes={struct.unpack_from('Q', page, 16)[0]} "
                         f"state={struct.unpack_from('I', page, 48)[0]}")
            for number, name in enumerate(("client", "server")):
                fields = (f"{key}={struct.unpack_from(kind, page, SIDES + SIDE_BYTES * number + offset)[0]}"
                          for key, (offset, kind) in SIDE.items())
                tail, latest_is = struct.unpack_from("QQ", page, NEWS + LINE // 2 * number)
                lines.append(f"    {name}: tail={tail} latest_is={latest_is:#x} " + " ".join(fields))
    return "\n".join(lines)


def family(pid):
    """A process and its descendants."""
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").glob("*/children"):
                found += [int(child) for child in task.read_text().split()]
        except FileNotFoundError:  # it has just ended
            pass
    return found


def dump(pid):
    """Stacks, wait channels, descriptors and segments of a process and its children, as text."""
    lines = []
    bare = os.environ | {"LD_PRELOAD": ""}  # no sanitizer for tools
    for one in family(pid):
        try:
            lines.append(f"process {one}: {Path(f'/proc/{one}/cmdline').read_bytes().replace(bytes(1), b' ').decode()}")
            for task in Path(f"/proc/{one}/task").iterdir():
                lines.append(f"  task {task.name}: wchan={(task / 'wchan').read_text()} "
                             f"syscall={(task / 'syscall').read_text().strip()}")
            lines += ["  " + text for text in subprocess.run(["ss", "-xp"], capture_output=True, text=True, env=bare)
                      .stdout.splitlines() if f"pid={one}," in text] if shutil.which("ss") else []
            lines.append(segments(one))
            if shutil.which("gdb"):
                lines.append(subprocess.run(["gdb", "-p", str(one), "-batch", "-nx", "-ex", "thread apply all bt 12"],
                                            capture_output=True, text=True, timeout=60, env=bare).stdout)
        except (OSError, subprocess.TimeoutExpired) as error:
            lines.append(f"  {error}")
    return "\n".join(lines)


# ---- running ----

def environment(end, case, log):
    if not end.shimmed:
        return shimlib.plain_env()
    shim = launcher.variables("*", case.spin, case.ring, case.warmup, environment={})
    return shimlib.plain_env(**shim, KVOSHIM_LOG="debug", KVOSHIM_LOG_FILE=log)


def end_family(process):
    for one in reversed(family(process.pid)):
        try:
            os.kill(one, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.communicate()


def run(program, case, directory=None, grace=GRACE):
    """Runs one case with a directory for its socket (default: a new one). An Outcome."""
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="kvoshim-") as made:
            return run(program, case, made, grace)
    path, log = f"{directory}/s", f"{directory}/log"
    common = [f"seconds={case.seconds}", f"seed={case.seed}", f"budget={case.budget}", f"most={case.most}"]
    command = {name: [program, name, path, *common, *end.words()]
               for name, end in (("server", case.server), ("client", case.client))}
    start = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    server = subprocess.Popen(command["server"], env=environment(case.server, case, log), **start)
    if server.stdout.readline() != "listening\n":
        return Outcome("wrong", f"the server did not start: {server.communicate()[1]}")
    client = subprocess.Popen(command["client"], env=environment(case.client, case, log), **start)
    limit = time.monotonic() + case.seconds + grace
    ends = {"server": server, "client": client}
    said, hung, wrong = {}, False, False
    waiting = dict(ends)
    while waiting and not hung:
        for name, process in list(waiting.items()):
            try:
                said[name] = process.communicate(timeout=0.05)
                del waiting[name]
                if process.returncode:  # the other end can't finish properly any more
                    wrong = True
                    limit = min(limit, time.monotonic() + 2)
            except subprocess.TimeoutExpired:
                pass
        hung = time.monotonic() > limit
    text = ""
    if waiting and not wrong:
        text = "hung:\n" + "\n".join(dump(process.pid) for process in ends.values() if process.poll() is None)
    for process in waiting.values():
        end_family(process)
    for name, (out, err) in said.items():
        text += f"{name} exit {ends[name].returncode}: {out.strip()} {err.strip()}\n"
    if waiting and not wrong:
        return Outcome("hung", text)
    if wrong:
        return Outcome("wrong", text)
    totals = {name: dict(word.split("=") for word in out.split()) for name, (out, _) in said.items()}
    totals = {name: {key: int(value) for key, value in one.items()} for name, one in totals.items()}
    for sender, receiver in (("server", "client"), ("client", "server")):
        if totals[sender]["sent"] != totals[receiver]["received"]:
            return Outcome("wrong", f"{sender} sent {totals[sender]['sent']} bytes, {receiver} received "
                           f"{totals[receiver]['received']}\n{text}", totals)
    log_text = Path(log).read_text() if os.path.exists(log) else ""
    return Outcome("good", text, totals, log_text.count(" accelerated "))
