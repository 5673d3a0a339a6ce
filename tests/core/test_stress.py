"""Lost wake-ups and lost bytes, hunted for about a second with each way of reading and writing on either side. scripts/soak
draws cases at random for as long as one likes; a seed that it found can be added to FOUND."""

from dataclasses import replace

import pytest
import rig
from rig import Case, End

MODES = rig.THREAD_MODES
LOOPS = rig.LOOP_MODES


def threads(read, write, **more):
    return End("threads", read, write, **more)


def loop(mode, **more):
    return End("loop", mode, **more)


def rotated(modes, by):
    return modes[by:] + modes[:by]


# Each way of reading meets each way of writing of the other side somewhere, with the tiny ring and without spinning.
THREADS = [
    Case(threads(a, b, writers=1 + n % 2, pace=("mixed", "hot", "slow-read", "slow-write")[n % 4]), threads(c, d),
         ring=4096, spin=(0, None)[n % 2], seed=n + 1)
    for n, (a, b, c, d) in enumerate(zip(MODES, rotated(MODES, 1), rotated(MODES, 3), rotated(MODES, 5), strict=True))
]
LOOPED = [Case(loop(a), loop(b, pace="slow-read"), ring=(4096, 262144)[n % 2], spin=(0, None)[n % 2], seed=n + 11)
          for n, (a, b) in enumerate(zip(LOOPS, rotated(LOOPS, 2), strict=True))]
ECHO = [Case(End("echo", mode, pace="mixed"), End("echo", other), ring=(4096, 262144)[n % 2], spin=(0, None)[n % 2],
             most=(600, 200 << 10)[n % 2], seed=n + 21)
        for n, (mode, other) in enumerate(zip(MODES, rotated(MODES, 4), strict=True))]
SHORT = [Case(end, other, budget=budget, seed=n + 31) for n, (end, other, budget) in enumerate([
    (threads("block", "block"), threads("block", "block"), 1),
    (loop("lt"), threads("poll", "et"), 300_000),
    (loop("et"), loop("select"), 20_000),
    (threads("lt", "poll", writers=2), threads("et", "oneshot"), 20_000),
    (End("echo", "lt"), End("echo", "block"), 200),
])]
SHARED = [Case(End("procs", "block", "lt"), threads("et", "poll", writers=2), seed=41),
          Case(End("procs", "et", "block"), End("procs", "poll", "block"), spin=0, seed=42)]
SIGNALS = [Case(threads("block", "block", signals=1), loop("poll", signals=1), seed=51),
           Case(loop("et", signals=1), threads("lt", "select", signals=1), seed=52)]
PLAIN = [Case(threads("block", "poll"), replace(loop("et"), shimmed=False), seed=61),
         Case(replace(threads("lt", "block"), shimmed=False), threads("et", "block"), seed=62)]
# Random cases in which the transport once hung or lost bytes.
FOUND = [rig.random_case(seed) for seed in (17, 31, 52, 62, 197, 2274)]

ALL = THREADS + LOOPED + ECHO + SHORT + SHARED + SIGNALS + PLAIN + FOUND


@pytest.mark.parametrize("case", ALL, ids=str)
def test_no_byte_and_no_wake_up_is_lost(stress, case):
    outcome = stress(case)
    assert outcome.verdict == "good", outcome.text
    assert all(one["sent"] > 0 for one in outcome.totals.values())
    both = case.server.shimmed and case.client.shimmed
    if case.budget == 0:  # each process of a side that has forked notes it
        processes = sum(2 if end.shape == "procs" else 1 for end in (case.server, case.client))
        assert (2 if both else 0) <= outcome.accelerated <= (processes if both else 0)
    elif both and case.budget > 1 and case.client.shape != "procs":  # forking right after connect() declines the offer
        assert outcome.accelerated > 0


@pytest.mark.parametrize("fault", ["drop", "flip"])
def test_the_rig_finds_wrong_bytes(stress, fault):
    case = Case(threads("block", "block", shimmed=False, fault=fault), threads("poll", "block", shimmed=False))
    outcome = stress(case)
    assert outcome.verdict == "wrong"
    assert ("wrong from byte" if fault == "drop" else "1 wrong from byte") in outcome.text


def test_the_rig_finds_hangs(stress):
    """A writer that stops for ever: the report shows where everybody waits, and the segment."""
    outcome = stress(Case(threads("block", "block", fault="stall"), threads("poll", "block"), seconds=0.3), grace=1)
    assert outcome.verdict == "hung"
    assert "wchan=" in outcome.text and "segment: ring_bytes=4096" in outcome.text and "rung=" in outcome.text
