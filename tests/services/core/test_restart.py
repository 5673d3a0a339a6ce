"""When a service starts again."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvoshim.services.core.model import View
from kvoshim.services.core.restart import End, Policy, delay, judge, policy_of
from kvoshim.services.core.states import Event, Phase, Status

CRASH = End(status=9)
POLICY = Policy(delay_s=0.1, factor=2, cap_s=5, jitter=0.2, healthy_s=10, limit=5, window_s=100)


@given(row=st.integers(0, 10_000), chance=st.floats(0, 1))
def test_the_delay_grows_to_its_cap_with_a_jitter(row, chance):
    found = delay(POLICY, row, chance)
    assert 0 <= found <= POLICY.cap_s
    if row <= 1:
        assert found == 0
    else:
        grown = min(POLICY.cap_s, 0.1 * 2.0 ** min(row - 2, 64))
        assert grown * 0.8 - 1e-9 <= found <= grown * 1.2 + 1e-9


def flap(times, policy=POLICY, up=0.0):
    """A service that fails at each of these times, having been up for `up` seconds before."""
    status, told = Status(phase=Phase.ONLINE), []
    for now in times:
        status = msgspec.structs.replace(status, ready=now - up if up else 0.0)
        status, event, reason = judge(policy, status, CRASH, now, 0.5)
        told.append((event, status.due - now, reason))
    return told


def test_failures_in_a_row_wait_longer_and_a_healthy_time_ends_the_row():
    assert [round(pause, 3) for _, pause, _ in flap([1, 2, 3, 4])] == [0, 0.1, 0.2, 0.4]
    assert [pause for _, pause, _ in flap([200, 400, 600], up=10)] == [0, 0, 0]


def test_too_many_failures_in_the_window_are_maintenance_with_a_reason():
    events = flap([1, 2, 3, 4, 5, 6])
    assert [event for event, _, _ in events] == [Event.FAILED] * 5 + [Event.GAVE_UP]
    assert events[-1][2] == "6 failures within 100 s; the latest: its main process was ended by signal 9"
    assert all(event is Event.FAILED for event, _, _ in flap(range(0, 1000, 30)))
    assert all(event is Event.FAILED for event, _, _ in flap(range(90), msgspec.structs.replace(POLICY, limit=0)))


@pytest.mark.parametrize("code", [95, 96, 125])
def test_a_permanent_failures_code_is_maintenance_at_once(code):
    _, event, reason = judge(POLICY, Status(), End(status=code << 8), 5.0, 0.5)
    assert event is Event.GAVE_UP
    assert reason == f"its main process ended with code {code}, which means that trying again is of no use"


def test_what_starts_again_after_which_end():
    def event(on, end):
        return judge(msgspec.structs.replace(POLICY, on=on), Status(), end, 1.0, 0.5)[1]

    clean = End(status=0)
    assert event("always", clean) is Event.FAILED
    assert event("failure", clean) is Event.COMPLETED
    assert event("never", clean) is Event.COMPLETED
    assert event("failure", CRASH) is Event.FAILED
    assert event("never", CRASH) is Event.GAVE_UP
    assert event("failure", End(what="watchdog")) is Event.FAILED


def test_a_policy_that_is_not_understood_is_named():
    assert policy_of(View(groups={"restart": {"limit": 3, "permanent-codes": ("4",)}})) == Policy(limit=3, permanent_codes=(4,))
    for group, said in (({"limits": 3}, "limits"), ({"limit": "3"}, "limit"), ({"factor": 0.5}, "factor at least 1")):
        with pytest.raises(msgspec.ValidationError, match=said):
            policy_of(View(groups={"restart": group}))


def test_an_end_in_words():
    assert str(End(status=139, core=True)) == "its main process was ended by signal 11, with a core dump"
    assert str(End(status=3 << 8)) == "its main process ended with code 3"
