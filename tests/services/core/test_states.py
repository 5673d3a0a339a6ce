"""The table of states: total, and no sequence of events loses a service."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvoshim.services.core import states
from kvoshim.services.core.states import ALIVE, COMING, SHOWN, STOPPING, TABLE, UP, Effect, Event, Phase, Status, advance

EVENTS = st.sampled_from(list(Event))


def test_there_is_an_entry_for_each_phase_and_event():
    assert set(TABLE) == set(Phase) == set(SHOWN)
    for phase, row in TABLE.items():
        assert set(row) == set(Event), phase
        assert all(isinstance(to, Phase) and isinstance(effect, Effect) for to, effect in row.values())


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_is_shown_as_one_of_the_known_states(phase):
    state, coming = SHOWN[phase]
    assert state in {"uninitialized", "offline", "online", "degraded", "maintenance", "disabled"}
    assert coming in {"", "offline", "online", "maintenance", "disabled"}


def run(events, status=None):
    status = status or Status()
    effects = []
    for number, event in enumerate(events):
        status, effect = advance(status, event, unix=1e9 + number, boot=float(number), reason=f"number {number}")
        effects.append(effect)
    return status, effects


@given(st.lists(EVENTS, max_size=60))
def test_no_sequence_of_events_loses_a_service(events):
    """From wherever it is, an enabled service without obstacles comes up again, and one that is disabled goes down."""
    status, _ = run(events)
    up = status
    for _ in range(8):
        for event in (Event.STOPPED, Event.CLEARED, Event.ENABLED, Event.START, Event.REFRESHED, Event.READY):
            up, _ = advance(up, event, unix=2e9, boot=1e6)
            if up.phase is Phase.STARTING and event is Event.START:
                continue
        if up.phase is Phase.ONLINE:
            break
    assert up.phase is Phase.ONLINE
    down = status
    for event in (Event.DISABLED, Event.STOPPED):
        down, _ = advance(down, event, unix=2e9, boot=1e6)
    assert down.phase is Phase.DISABLED


@given(st.lists(EVENTS, max_size=60))
def test_processes_are_started_only_where_there_are_none_and_never_left(events):
    """A start is ordered only from a phase without processes; a phase with processes is left only for one in which they are looked
    after, and those in turn only when none is left."""
    status = Status()
    for number, event in enumerate(events):
        before = status
        status, effect = advance(before, event, unix=1.0, boot=float(number))
        if effect is Effect.SPAWN:
            assert before.phase not in ALIVE
            assert status.phase is Phase.STARTING and status.run == before.run + 1
        if before.phase in ALIVE and status.phase not in ALIVE:
            assert before.phase in STOPPING and event is Event.STOPPED
        if before.phase not in ALIVE and status.phase in ALIVE:
            assert effect is Effect.SPAWN
        if before.phase in ALIVE - STOPPING and status.phase in STOPPING:
            assert effect in (Effect.STOP, Effect.SWEEP)
        assert status.run >= before.run


@given(st.lists(EVENTS, max_size=40))
def test_a_report_has_all_that_a_new_restarter_needs(events):
    status, _ = run(events)
    assert states.from_report(states.to_report(status, 2**64 - 1)) == status


def test_a_report_that_makes_no_sense_is_as_none():
    assert states.from_report({"phase": "asleep", "run": 3}) == Status()
    assert states.from_report({"phase": "online", "run": "three"}) == Status()
    assert states.from_report({}) == Status()


def test_what_is_up_is_not_on_its_way_and_what_is_on_its_way_is_not_up():
    assert not UP & COMING
    assert {Phase.DISABLED, Phase.MAINTENANCE}.isdisjoint(UP | COMING | ALIVE)
