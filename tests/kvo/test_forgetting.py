"""Who observes all keys does not keep every key that ever was."""

import pytest
from kvo_harness import until

import kvoshim
from kvoshim.kvo import delivery as deliveries
from kvoshim.kvo import observation

KEYS, SESSIONS, FORGET_AT = 32, 500, 50


@pytest.mark.parametrize("delivery", ["direct", "controller"])
@pytest.mark.parametrize("mode", ["latest", "every"])
def test_keys_that_are_no_more_are_forgotten(place, monkeypatch, mode, delivery):
    for module in (deliveries, observation):
        monkeypatch.setattr(module, "FORGET_AT", FORGET_AT)
    place.controller()
    changes = []
    with kvoshim.Observable("sessions", max_keys=KEYS) as sessions, kvoshim.Observer() as observer:
        token = observer.observe("sessions", "**", changes.append, mode=mode, delivery=delivery)
        sessions["lasting"] = 0
        for number in range(SESSIONS):
            sessions[f"s{number}"] = number
            until(lambda number=number: any(change.new == number for change in changes[-8:]), "each is seen")
            sessions.delete(f"s{number}")
        sessions["lasting"] = 1
        until(lambda: changes[-1].key == "lasting" and changes[-1].new == 1)
        seen = token._observation._seen
        assert len({change.key for change in changes}) == SESSIONS + 1
        assert len(seen) <= 2 * KEYS + FORGET_AT + 2
        # What is left goes on as before, and what comes back is new.
        revisions = [change.revision for change in changes]
        assert revisions == sorted(revisions)
        before = len(changes)
        sessions["s0"] = "again"
        sessions.delete("lasting")
        until(lambda: len(changes) >= before + 2)
        assert [(change.key, change.kind) for change in changes[before:]] == [("s0", "setting"), ("lasting", "deletion")]
        assert changes[-1].revision > changes[-2].revision > revisions[-1]
