"""The proof of acceleration: what the log must say, and that the shim's environment reaches both programs."""

import subprocess
from dataclasses import replace

import pytest

from kvoshim.bench import drivers, proof
from kvoshim.bench.cases import CASES
from kvoshim.bench.model import CONTROL, KERNEL, SHIM

LOG = """\
kvoshim[10 client] accelerated id=-100 fd=5 side=client path=/tmp/a/s peer=11
kvoshim[11 server] accelerated id=-100 fd=6 side=server path=/tmp/a/s peer=10
kvoshim[11 my server] plain fd=7 side=server path=/tmp/a/s reason=unmarked
kvoshim[12 other] accelerated id=-100 fd=5 side=client path=/tmp/b/s peer=13
something else that says accelerated side=client path=/tmp/a/s
"""

# Stands in for the library: says, as the shim does, that a connection was accelerated. It moves no byte.
PRELOAD = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
static void say(const char *side, int fd) {
    const char *name = getenv("KVOSHIM_LOG_FILE"), *level = getenv("KVOSHIM_LOG");
    FILE *log = name && level && *level == 'd' ? fopen(name, "a") : NULL;
    if (!log) return;
    fprintf(log, "kvoshim[%d test] accelerated id=-100 fd=%d side=%s path=%s peer=1\n", getpid(), fd, side,
            getenv("KVOSHIM_PATHS"));
    fclose(log);
}
int connect(int fd, const struct sockaddr *address, socklen_t size) {
    int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    int result = next(fd, address, size);
    if (!result) say("client", fd);
    return result;
}
int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    int (*next)(int, struct sockaddr *, socklen_t *, int) = dlsym(RTLD_NEXT, "accept4");
    int result = next(fd, address, size, flags);
    if (result >= 0 && SERVER) say("server", result);
    return result;
}
"""


def test_lines_of_the_path_are_counted_by_side(tmp_path):
    log = tmp_path / "log"
    log.write_text(LOG)
    found = proof.read_log(log, "/tmp/a/s")
    assert (found.client, found.server, dict(found.plain)) == (1, 1, {"unmarked": 1})
    assert found.holds(1) and not found.holds(2)
    assert found.words() == "1 (plain: 1 unmarked)"


def test_one_side_alone_proves_nothing(tmp_path):
    log = tmp_path / "log"
    log.write_text(LOG)
    found = proof.read_log(log, "/tmp/b/s")
    assert found.words() == "1 client, 0 server" and not found.holds(1)


def test_no_log_proves_nothing(tmp_path):
    assert not proof.read_log(tmp_path / "none", "/tmp/a/s").holds(1)


@pytest.fixture(params=[1, 0], ids=["both-sides", "client-only"])
def preload(request, tmp_path):
    """A preload library that logs as the shim does; and whether its server side does so too."""
    source, library = tmp_path / "stand in.c", tmp_path / "stand in.so"
    source.write_text(PRELOAD)
    command = ["cc", "-shared", "-fPIC", f"-DSERVER={request.param}", "-o", library, source]
    subprocess.run(command, check=True, timeout=60)
    return library, bool(request.param)


def test_a_run_is_proved_by_the_log_of_both_programs(context, preload):
    library, both = preload
    case = next(case for case in CASES if case.name == "c-rtt")
    figures = drivers.run_stream(replace(context, library=library), case, 8, "any", SHIM)
    assert figures["proof"]["holds"] is both
    assert figures["proof"]["client"] == 1


@pytest.mark.parametrize("subject", [KERNEL, CONTROL])
def test_the_plain_sides_carry_nothing_of_the_shim(context, subject, monkeypatch, tmp_path):
    for name in ("LD_PRELOAD", "KVOSHIM_PATHS", "KVOSHIM_LOG", "USE_TSSX"):
        monkeypatch.setenv(name, "something")
    case = next(case for case in CASES if case.name == "c-rtt")
    variables = drivers.environment(context, case, subject, drivers.Stage(tmp_path), "/tmp/s")
    left = {name: value for name, value in variables.items() if name.startswith(("KVOSHIM", "LD_", "USE_"))}
    assert left == ({"LD_PRELOAD": "libm.so.6"} if subject == CONTROL else {})
