"""Half a minute of what scripts/fuzz-kvo does for long, from fixed seeds. scripts/test runs it beside the other tests."""

import logging
import random

import fuzz_kvo
import pytest
from kvo_harness import until


def test_messages_cut_anywhere(nothing_mapped):
    dice = random.Random(30)
    for _ in range(200_000):
        fuzz_kvo.cut_one(dice)


@pytest.mark.parametrize("part,count", [("value", 500_000), ("store", 250_000), ("observed", 80_000), ("opened", 200_000)])
def test_wild_stores(nothing_mapped, part, count):
    logging.disable(logging.CRITICAL)  # what cannot be read is logged each time
    try:
        outcomes, _ = fuzz_kvo.stores(random.Random(31), part, count)
    finally:
        logging.disable(logging.NOTSET)
    assert outcomes["read"]
    assert outcomes["told: error"] > 1000 and outcomes["told: setting"] > 1000 if part == "observed" else outcomes["CorruptStoreError"]


def test_a_controller_under_random_messages(place):
    served = fuzz_kvo.Controlled(place)
    try:
        dice = random.Random(32)
        fuzz_kvo.flood(dice, place.socket, 300)
        served.check(until)
        before = served.held()
        assert sum(fuzz_kvo.flood(dice, place.socket, 300) for _ in range(900)) > 9000
        served.check(until)
        until(lambda: served.held()[1] <= before[1] + 2, "no descriptor is kept")
        assert served.held()[0] < before[0] + fuzz_kvo.GROWTH
    finally:
        served.close()
