"""An observable that writes garbage over its own store: its observers get a typed error for what cannot be read and keep all
else, the controller serves on, and the name is not lost. (What readers make of wild bytes, byte by byte: test_values.py,
test_store.py, test_revisions.py.)"""

import os

import psutil
import pytest
from kvo_attacks import KEYS, slot_at
from kvo_harness import until

import kvoshim
from kvoshim.errors import CorruptStoreError, KvoshimError

EVIL = slot_at(1)  # the second key's slot
FF = "ff" * 8
GROWTH = 64 << 20 if "SANITIZER" not in os.environ else 1 << 30  # a sanitizer keeps what is freed for a while
# Where, what. Both records of the slot are hit where it matters: which one is read depends on the number of writes.
DAMAGE = {
    "the values": [(EVIL + 64 + 48, "ee" * 16), (EVIL + 192 + 48, "ee" * 16)],
    "the checksums": [(EVIL + 64 + 36, "00000001"), (EVIL + 192 + 36, "00000001")],
    "the types": [(EVIL + 64 + 40, "63"), (EVIL + 192 + 40, "63")],
    "the lengths": [(EVIL + 64 + 32, "ffffffff"), (EVIL + 192 + 32, "ffffffff")],
    "the blocks": [(EVIL + 64 + 24, FF), (EVIL + 192 + 24, FF)],
    "the times": [(EVIL + 64 + 8, FF), (EVIL + 192 + 8, FF)],
}


@pytest.fixture
def scene(place):
    """An observable that will turn evil, an honest one, and a process that observes both in every way."""
    place.controller()
    evil, honest, watcher = place.peer(), place.peer(), place.peer()
    evil.do("publish", "evil", {"max_keys": KEYS, "capacity": 1 << 20, "history": 1 << 16})
    honest.do("publish", "honest")
    for key in ("good", "evil", "other"):
        evil.do("set", "evil", key, "text")
    honest.do("set", "honest", "n", 0)
    place.evil, place.honest, place.watcher, place.lives = evil, honest, watcher, 1
    yield place
    assert place.log_text().count(f" serves {place.socket}") == place.lives, "the controller lives"
    assert "could not be handled" not in place.log_text()


def observe(watcher):
    for key, options in (("good", None), ("evil", None), (None, None), ("e*", None), ("evil.path", None), ("g*", {"mode": "every"})):
        watcher.do("observe", "evil", key, options)
    watcher.do("observe", "honest", "n")


def goes_on(place, numbers):
    """The honest observable's changes arrive, one by one."""
    for number in numbers:
        place.honest.do("set", "honest", "n", number)
        until(lambda number=number: place.watcher.values("n")[-1:] == [number], "the honest observable is heard")


@pytest.mark.parametrize("what", DAMAGE)
def test_a_spoiled_key_is_an_error_of_that_key_and_the_others_go_on(scene, what):
    evil, watcher = scene.evil, scene.watcher
    for offset, data in DAMAGE[what]:
        evil.do("attack", "poke", offset, data)
    observe(watcher)
    errors = until(lambda: [event for event in watcher.events if event["kind"] == "error"])
    assert {(event["target"], event["key"]) for event in errors} == {("evil", "evil")}
    assert all("'evil'" in event["error"] for event in errors)
    with kvoshim.Observer() as observer:
        with pytest.raises(CorruptStoreError):
            observer.get("evil", "evil")
        assert observer.get("evil", "good") == "text"
        assert "good" in observer.snapshot("evil") and "evil" not in observer.snapshot("evil")
    for number in range(5):
        evil.do("set", "evil", "good", number)
        # By key, by pattern in mode every, and among all keys.
        until(lambda number=number: [event["new"] for event in watcher.events if event["key"] == "good"].count(number) == 3)
    goes_on(scene, range(1, 4))
    if what not in ("the lengths", "the blocks"):  # these its own writer falls over
        for value in ("healed", "healed again"):
            evil.do("set", "evil", "evil", value)
        until(lambda: "healed again" in watcher.values("evil"))


def test_a_revision_that_is_made_up_is_forgotten_with_its_store(scene):
    """With a checksum that is right: whoever has seen it hears a successor all the same, also after a reconnection."""
    evil, watcher = scene.evil, scene.watcher
    watcher.do("observe", "honest", "n")
    evil.do("attack", "claim_revision", 1, (1 << 63) + 5, "made up")
    for key in ("good", "evil", None):
        watcher.do("observe", "evil", key)
    until(lambda: "made up" in watcher.values("evil"))
    assert max(event["revision"] for event in watcher.events) == (1 << 63) + 5
    goes_on(scene, [1])
    scene.controllers[0].kill()
    scene.controllers[0].wait(30)
    scene.lives = 2  # a client starts another one
    goes_on(scene, [2])
    for turn in range(2):
        if turn:
            evil = scene.peer()
            evil.do("publish", "evil", {"max_keys": KEYS, "capacity": 1 << 20, "history": 1 << 16})
            evil.do("attack", "claim_revision", 1, (1 << 62) + 5, "made up")
        evil.kill()
        with kvoshim.Observable("evil") as successor:
            successor.update(good=f"after all {turn}", evil=f"no more {turn}")
            until(lambda: f"after all {turn}" in watcher.values("good") and f"no more {turn}" in watcher.values("evil"))
    goes_on(scene, [3])


AREAS = {
    "records": [[EVIL + 64, 256]],
    "the slot": [[EVIL, 320]],
    "all slots": [[slot_at(0), 320 * KEYS]],
    "the keys": [[4096, 256 * KEYS], [512, 16]],
    "counters": [[512, 256]],
    "the ring": [[slot_at(KEYS), 4 * 4096], [576, 8]],
    "the journal": [[slot_at(KEYS) + 4 * 4096, 1 << 16], [640, 64]],
    "everywhere": [[0, 1 << 20], [0, 4096], [4096, 40_000]],
}


@pytest.mark.parametrize("area", AREAS)
def test_garbage_while_everybody_reads(scene, area):
    evil, watcher = scene.evil, scene.watcher
    observe(watcher)
    watcher.do("observe", "evil", "**", {"mode": "every"})
    with kvoshim.Observer() as observer:
        before = psutil.Process(scene.controllers[0].pid).memory_info().rss
        for turn in range(30):
            evil.do("attack", "scribble", turn, 40, AREAS[area])
            evil.do("bell", "evil")
            for read in (lambda: observer.snapshot("evil"), lambda: observer.keys("evil"), lambda: observer.revision("evil"),
                         lambda: [observer.get("evil", key, None) for key in ("good", "evil", "other", "none")]):
                try:
                    read()
                except KvoshimError:
                    pass
            goes_on(scene, [turn + 1])
        assert observer.get("honest", "n") == 30
        assert observer.observables()
        assert psutil.Process(scene.controllers[0].pid).memory_info().rss - before < GROWTH
    watcher.do("unobserve", "evil", None)
    watcher.do("observe", "honest", None)
    goes_on(scene, [100])
    for event in list(watcher.events):
        assert event["kind"] != "error" or event["target"] == "evil"
    evil.kill()
    goes_on(scene, [101])
    with kvoshim.Observable("evil") as successor, kvoshim.Observer() as observer:
        successor["good"] = "after all"
        assert observer.get("evil", "good") == "after all"
        until(lambda: "after all" in watcher.values("good"), "the name is not lost")
