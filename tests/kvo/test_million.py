"""A million changes set by one process, observed by another through the controller."""

import pytest
from kvo_harness import until

CHANGES = 1_000_000


@pytest.mark.watchdog(240)
def test_a_million_changes_arrive_in_the_end(place):
    controller = place.controller()
    publisher, observer = place.peer(), place.peer()
    publisher.do("publish", "counter")
    observer.do("observe_quietly", "counter", "n")
    assert publisher.do("count", "counter", "n", 1, CHANGES, timeout=150) == CHANGES
    seen = until(
        lambda: (tally := observer.do("seen", "n"))["revision"] == CHANGES and tally, "the last value arrives"
    )
    assert seen["last"] == CHANGES
    assert seen["falls"] == 0, "versions rise strictly"
    assert seen["changes"] >= 2, "changes were told while they were made"
    print(f"{CHANGES} set, {seen['changes']} delivered")
    # Everybody still works.
    assert publisher.do("set", "counter", "n", -1) == CHANGES + 1
    until(lambda: observer.do("seen", "n")["last"] == -1, "one more change arrives")
    assert controller.poll() is None
