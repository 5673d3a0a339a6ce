"""What an unprivileged process, of another user, can do to Key-Value Observation: nothing but what policy admits. Each test
has a process become that user and try (kvo_attacks.py)."""


import pytest
from kvo_harness import until
from test_access import GROUP, NOBODY, OTHER, others, serve  # noqa: F401  fixtures

import kvoshim

LOOKER = {"allow": ["observe"], "user": NOBODY, "names": ["engine"]}
PUBLISHER = {"allow": ["publish"], "user": OTHER, "names": ["robot"]}


@pytest.fixture(params=[NOBODY, OTHER])
def user(request):
    """One may observe a name, the other publish one."""
    return request.param


@pytest.fixture
def scene(place, serve):  # noqa: F811
    """A controller with rules for two users, an observable and an observer of the first user's, all at work: afterwards
    they still are."""
    serve(LOOKER, PUBLISHER)
    owner, watcher = place.peer(), place.peer()
    owner.do("publish", "engine")
    owner.do("set", "engine", "rpm", 1)
    owner.do("publish", "vault")
    owner.do("set", "vault", "key", "a secret")
    for name in ("engine", "vault"):
        watcher.do("observe", name, None)
    until(lambda: len(watcher.events) == 2)
    place.owner, place.watcher = owner, watcher
    yield place
    assert [event["kind"] for event in watcher.events] == ["initial", "initial"], "nobody has told them anything"
    owner.do("set", "engine", "rpm", 2)
    owner.do("set", "vault", "key", "another")
    until(lambda: watcher.values("rpm") == [1, 2] and watcher.values("key") == ["a secret", "another"])
    assert place.controllers[0].poll() is None and len(place.controller_pids()) == 1


def test_a_store_is_mapped_for_reading_only(scene):
    results = scene.peer(NOBODY).do("attack", "write_to_store", scene.socket, "engine")
    assert results.pop("value") == 1
    assert len(results) == 8 and set(results.values()) == {"PermissionError"}, results


def test_what_policy_denies_is_not_read(scene, user):
    peer = scene.peer(user)
    for target in ("vault", "no such name"):
        assert f"may not observe {target!r}" in peer.do("attack", "open_store", scene.socket, target)
    names = {NOBODY: "may not observe", OTHER: "may not observe"}
    assert names[user] in peer.do("attack", "open_store", scene.socket, "vault")
    results = peer.do("attack", "take_what_was_not_given", scene.socket, "vault")
    assert results == {f"ticket{number}": "ProtocolError" for number in range(4)}


def test_the_table_tells_an_observer_nothing_of_others(scene):
    """Who only observes has no use for it. (Who may publish has: it says which keys somebody observes.)"""
    assert scene.peer(NOBODY).do("attack", "table", scene.socket) == []
    assert {row["name"] for row in scene.peer().do("attack", "table", scene.socket)} == {"engine", "vault"}


def test_other_processes_are_not_entered(scene, user):
    peer = scene.peer(user)
    for pid in (scene.controllers[0].pid, scene.owner.pid, scene.watcher.pid):
        results = peer.do("attack", "into_process", pid)
        assert len(results) == 8 and set(results.values()) == {"PermissionError"}, results
    own = peer.do("attack", "into_process", scene.peer(user).pid)
    assert own["descriptors"] == "SUCCEEDED", "the attempt would have told of a success"


def test_the_controllers_place_is_not_taken(scene, user):
    scene.kvoshim("ctl", "controller", "status-get")
    results = scene.peer(user).do("attack", "take_the_place", scene.socket)
    assert results.pop("lock") == "SUCCEEDED", "the PID file may be read"
    assert results.pop("start") in ("PermissionError", "FileNotFoundError")
    binds = [results.pop(f"{what}-bind") for what in ("socket", "channel", "control")]
    assert set(binds) <= {"PermissionError", "OSError"}, binds  # EADDRINUSE
    assert len(results) == 10 and set(results.values()) == {"PermissionError"}, results


def test_notifications_are_not_forged(scene, user):
    peer = scene.peer(user)
    results = peer.do("attack", "speak_as_the_controller", scene.socket)
    assert set(results.values()) <= {"ConnectionAbortedError", "ConnectionResetError", "BrokenPipeError"}, results
    until(lambda: "showed no valid token" in scene.log_text())
    assert peer.do("attack", "speak_to_processes", [scene.owner.pid, scene.watcher.pid])["sockets"] > 0
    scene.owner.do("set", "vault", "other", 1)
    until(lambda: scene.watcher.values("other") == [1])
    scene.watcher.events.pop()


def test_a_controller_that_anybody_could_have_put_there_is_not_trusted(place, others):  # noqa: F811
    """In a directory where everybody may write, another user's controller may be an impostor."""
    place.directory.chmod(0o1777)
    impostor = place.peer(NOBODY)
    impostor.do("listen", place.socket)
    with pytest.raises(kvoshim.errors.DirectoryError, match=f"is user {NOBODY}'s, and not they alone may write"):
        kvoshim.Observer()
    victim = place.peer(OTHER)
    with pytest.raises(AssertionError, match="DirectoryError"):
        victim.do("publish", "engine")
