"""Redis' own tests, of its Debian source package, against the installed server on Unix sockets."""

from __future__ import annotations

import collections
import re
import shutil
from pathlib import Path

from conformance.obtain import apt_install, build, debian, debian_source, once, program
from conformance.scenes.scene import PROGRAMS
from conformance.suite import CACHE, Result, Suite, Unavailable, execute

#: Without those of replication, cluster and TLS, which speak TCP, of modules, which would have to be built, and of
#: memory efficiency, which take minutes.
_UNITS = [f"type/{unit}" for unit in "string incr list list-2 list-3 set zset hash stream stream-cgroups".split()]
_UNITS += """printver keyspace scan info-command info auth acl acl-v2 protocol dump latency-monitor quit aofrw expire other multi
    bitops bitfield geo hyperloglog sort scripting functions lazyfree pubsub pubsubshard slowlog introspection
    introspection-2 limits obuf-limits querybuf replybufsize pendingquerybuf client-eviction maxmemory tracking networking pause
    wait shutdown violations""".split()


class Redis(Suite):
    """A unit is a run of its own, with a control process, one that tests, and the servers that the tests start."""

    name = "redis"
    about = "Redis' own tests"
    accelerates = 800
    limit = 300

    def install(self) -> None:
        debian(**{"redis-server": "redis-server", "redis-cli": "redis-tools", "redis-benchmark": "redis-tools",
                  "tclsh8.6": "tcl8.6", "cc": "gcc"})
        source = debian_source("redis", "redis-server")
        with once("redis-tests") as (folder, fresh):
            if fresh:
                shutil.copytree(source / "tests", folder / "tests")
                self._extend(folder)
                self._use_unix_sockets(folder)
                (folder / "src").mkdir()
                for name in ("redis-server", "redis-cli", "redis-benchmark"):
                    (folder / "src" / name).symlink_to(program(name))

    def _extend(self, folder: Path) -> None:
        """Compile Tcl's command `unix_socket`."""
        if not Path("/usr/include/tcl8.6/tcl.h").exists():
            apt_install(["tcl8.6-dev"])
        shutil.copy(PROGRAMS / "tcl_unix_socket.c", folder)
        build(folder, "Tcl's unix_socket",
              "cc -O2 -shared -fPIC -I/usr/include/tcl8.6 tcl_unix_socket.c -o unix_socket.so -ltcl8.6")

    def _use_unix_sockets(self, folder: Path) -> None:
        """The two places of the tests that have to know: where they begin, and what a server's socket is called."""
        for name, old, new in (
                ("tests/test_helper.tcl", r"\A", "source redis_over_unix.tcl\n"),
                ("tests/support/server.tcl", r"set unixsocket \[file normalize .*", "set unixsocket $::env(TMPDIR)/$port.sock")):
            text, found = re.subn(old, lambda _, new=new: new, (folder / name).read_text())
            if found != 1:
                raise Unavailable(f"Redis' tests: {name} is not as expected")
            (folder / name).write_text(text)

    def run(self, environment, directory, only=None) -> Result:
        here = directory / "redis"
        shutil.copytree(CACHE / "redis-tests", here, symlinks=True)
        shutil.copy(PROGRAMS / "redis_over_unix.tcl", here)
        result = Result()
        for unit in _UNITS:
            if only and not any(test.startswith(f"{unit}: ") for test in only):
                continue
            ended = execute([program("tclsh8.6"), "tests/test_helper.tcl", "--clients", "1", "--durable", "--single", f"unit/{unit}"],
                            environment, directory, self.limit, cwd=here)
            text = re.sub(r"\x1b\[[\d;]*m", "", ended.text)
            result.text += text
            text = text.split("\n*** [")[0]      # what failed is told again at the end
            seen = collections.Counter()
            for how, test in re.findall(r"^\[(ok|err|exception)\]: (.*)", text, re.M):
                # Some names come twice, and some tests count or measure in theirs.
                test = re.sub(r" \(\d+ ms\)$| in tests/\S+\.tcl$", "", test)
                seen[test] += 1
                name = f"{unit}: {test}" + (f" ({seen[test]})" if seen[test] > 1 else "")
                (result.passed if how == "ok" else result.failed).add(name)
        return result


SUITES = [Redis()]
