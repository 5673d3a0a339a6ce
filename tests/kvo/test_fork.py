"""fork(): the child gets no half of its parent's objects, may have its own, and does the parent no harm."""

import os
import signal
import traceback

import pytest
from kvo_harness import until

import kvoshim
from kvoshim.errors import ForkedError


def in_child(work) -> None:
    """Runs work() in a forked child; fails with its traceback."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = b""
        try:
            signal.alarm(30)
            work()
        except BaseException:
            text = traceback.format_exc().encode()
        os.write(writing, text)
        os._exit(1 if text else 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    assert status == 0, text or f"the child ended with status {status}"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_the_childs_copies_say_what_they_are_and_the_parents_go_on(place):
    place.controller()
    changes = []
    with kvoshim.Observable("engine") as engine, kvoshim.Observer() as observer:
        engine["rpm"] = 1
        token = observer.observe("engine", "rpm", changes.append)
        until(lambda: changes)

        def work():
            for call in (
                lambda: engine.set("rpm", 2),
                lambda: engine["rpm"],
                lambda: engine.delete("rpm"),
                engine.keys,
                lambda: observer.get("engine", "rpm"),
                lambda: observer.observe("engine", "x", print),
                lambda: observer.get("other", "rpm"),
                observer.observables,
            ):
                with pytest.raises(ForkedError):
                    call()
            token.close()  # of no consequence for the parent
            observer.close()
            engine.close()
            with kvoshim.Observer() as own, kvoshim.Observable("child") as mine:
                assert own.get("engine", "rpm") == 1
                seen = []
                own.observe("engine", "rpm", seen.append)
                mine["x"] = 1
                until(lambda: seen)

        for _ in range(3):
            in_child(work)
        engine["rpm"] = 2
        until(lambda: changes[-1].new == 2)
        assert [change.kind for change in changes] == ["initial", "setting"]
        assert observer.get("child", "x") == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_closing_copies_in_the_child_hangs_nowhere_and_closes_nothing_of_the_parents(place):
    place.controller()
    with kvoshim.Observable("engine") as engine, kvoshim.Observer() as observer, kvoshim.Observer(thread=False) as manual:
        engine.put("soon", 1, ttl=600)
        changes = observer.changes("engine", "k")
        changes.fileno()
        seen = []
        manual.observe("engine", "k", seen.append)
        expiry, incoming = engine._publication.expiry, changes

        def work():
            changes.close()
            for call in (lambda: manual.process(), lambda: manual.fileno(), lambda: engine.put("k", 1)):
                with pytest.raises(ForkedError):
                    call()
            manual.close()
            engine.close()

        with expiry._wake, incoming._lock:  # as if the threads that have them were in the middle of something
            in_child(work)
        engine["k"] = 2
        assert changes.get(30).new == 2
        until(lambda: (manual.process(0.1), seen)[1])
        changes.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_an_observable_is_gone_with_its_process_even_if_a_child_lives_on(place):
    """The child holds the connection's descriptor open: the process's own death counts."""
    place.controller()
    parent = os.fork()
    if parent == 0:
        try:
            signal.alarm(60)
            observable = kvoshim.Observable("engine")
            observable["rpm"] = 1
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                signal.pause()
            observable["child"] = child
            signal.pause()
        finally:
            os._exit(1)
    changes = []
    with kvoshim.Observer() as observer:
        observer.observe("engine", "child", changes.append)
        until(lambda: changes)
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        until(lambda: changes[-1].kind == "gone")
        os.kill(changes[0].new, signal.SIGKILL)
