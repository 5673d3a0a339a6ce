"""The restarter is killed again and again; nobody else notices."""

import contextlib
import os
import random
import time

import psutil
import pytest
from startdlib import SLEEP, python, service
from test_startd import NOTIFY

from kvoshim.services.core.states import Phase

KILLS = int(os.environ.get("KVOSHIM_TEST_KILLS", "25"))
SOAK = KILLS > 50  # scripts/soak-svc: on a quiet machine, so that it may ask for a time


@pytest.mark.watchdog(1200 if SOAK else 120)
def test_startd_killed_at_random_interrupts_nothing_and_starts_nothing_twice(services, place):
    """20 services of all kinds run; startd is killed at random moments, also while others are started, stopped and fail. Of those 20
    each process is the same to the end, and was started once; what should happen to the others happens."""
    starts = place / "starts"
    note = f"echo $KVOSHIM_INSTANCE $$ >> {starts}; exec sleep 1000"
    line = "f\"{os.environ['KVOSHIM_INSTANCE']} {os.getpid()}\\n\""
    code = NOTIFY + f"open({str(starts)!r}, 'a').write({line}); say('READY=1'); time.sleep(1000)"
    steady = [f"s{n}" for n in range(20)]
    services.add(
        *(service(name, "/bin/sh", "-c", note, needs=[f"s{n - 1}"] if n % 4 else []) for n, name in enumerate(steady) if n % 5),
        *(service(name, *python(code), startd={"ready": "notify"}) for n, name in enumerate(steady) if n % 5 == 0),
        service("moving", *SLEEP),
    )
    before = {name: node.status for name, node in services.online(*steady, "moving").items()}
    pids = {name: status.pid for name, status in before.items() if name != "moving:default"}
    chance = random.Random(7)
    for number in range(KILLS):
        wanted = number % 2 == 0
        services.enable("moving", not wanted)
        time.sleep(chance.uniform(0, 0.5))
        daemon = services.until(services.startd, "the spawner does not start it again")
        with contextlib.suppress(psutil.NoSuchProcess):
            daemon.kill()
    killed = time.monotonic()
    services.enable("moving", True)
    services.until(services.startd, "the spawner does not start it again")
    services.online(*steady, "moving")
    took = time.monotonic() - killed
    print(f"\n{KILLS} kills; states right {took:.2f} s after the last one")
    assert not SOAK or took < 2
    after = {name: node.status for name, node in services.nodes().items()}
    for name, pid in pids.items():
        assert after[name].pid == pid and after[name].run == before[name].run == 1, name
        assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        assert not after[name].failures
    lines = starts.read_text().splitlines()
    assert sorted(lines) == sorted(f"{name} {pid}" for name, pid in pids.items())


@pytest.mark.parametrize("moment", ["starting", "stopping", "failing"])
def test_what_was_under_way_goes_on_under_the_next_restarter(services, place, moment):
    go = place / "go"
    code = NOTIFY + (
        "signal.signal(signal.SIGTERM, lambda *a: (time.sleep(.5), os._exit(0)))\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(.01)\n"
        "say('READY=1')\nwhile True: time.sleep(.01)"
    )
    services.add(service("a", *python(code), startd={"ready": "notify"}))
    first = services.wait_for("a", Phase.STARTING)
    services.until(lambda: services.status("a").pid, "it has no process")
    first = services.status("a")
    if moment == "starting":
        services.startd().kill()
        go.write_text("")
        status = services.wait_for("a", Phase.ONLINE)
        assert (status.run, status.pid) == (1, first.pid)
        return
    go.write_text("")
    services.wait_for("a", Phase.ONLINE)
    if moment == "stopping":
        services.enable("a", False)
        services.wait_for("a", Phase.DISSTOPPING)
        services.startd().kill()
        services.wait_for("a", Phase.DISABLED)
        assert not psutil.pid_exists(first.pid)
        return
    daemon = services.startd()
    daemon.suspend()
    os.kill(first.pid, 9)
    daemon.kill()
    status = services.wait_for("a", Phase.ONLINE, run=2)
    assert status.row == 1 and status.pid != first.pid
