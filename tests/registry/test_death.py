"""Death is seen at once, a stop soon; nothing is polled but that, and waiting costs nothing."""

import os
import signal
import time

import psutil
import pytest
from registry_harness import until

from kvoshim import registry
from kvoshim.errors import NoAnswerError, UnknownNameError


def test_a_killed_process_is_gone_at_once_and_the_next_in_line_owns_its_name(stage):
    first, second, watcher = stage.peer(), stage.peer(), stage.peer()
    first.do("register", "engine", {})
    second.do("register", "engine", {})
    watcher.do("watch", "engine")
    until(lambda: watcher.seen("end"))
    first.kill()
    until(lambda: watcher.seen("removed") == [("engine", first.pid)])
    until(lambda: second.seen("owned"))
    assert [entry.pid for entry in registry.find("engine")] == [second.pid]


def test_a_dead_process_whose_child_keeps_its_connection_is_gone_too(stage):
    """The kernel would not close the connection: the pidfd tells."""
    peer = stage.peer()
    peer.do("register", "engine", {})
    registry.find()
    held = os.pidfd_open(peer.pid)
    copies = []
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        for name in os.listdir(f"/proc/{peer.pid}/fd"):
            if os.readlink(f"/proc/{peer.pid}/fd/{name}").startswith("socket:"):
                copies.append(libc.syscall(438, held, int(name), 0))  # pidfd_getfd
        assert copies and min(copies) >= 0
        peer.kill()
        until(lambda: registry.find("engine") == [])
    finally:
        for fd in [held, *copies]:
            os.close(fd)


def test_a_process_that_ends_in_order_is_gone(stage):
    peer = stage.peer()
    peer.do("register", "engine", {})
    assert registry.find("engine")
    peer.close()
    until(lambda: registry.find("engine") == [])


def test_a_stopped_process_is_marked_as_suspect_until_it_goes_on(stage):
    config = stage.configure(**{"suspect-s": 0.05})
    stage.serve("--config", str(config))
    peer = stage.peer()
    peer.do("register", "engine", {})
    with registry.watch("engine") as search:
        assert [search.get(30).kind, search.get(30).kind] == ["present", "end"]
        os.kill(peer.pid, signal.SIGSTOP)
        event = search.get(60)
        assert event.kind == "changed" and event.entry.suspect and event.entry.owner
        with pytest.raises(NoAnswerError, match=f"PID {peer.pid}"):
            registry.ping(event.entry, 0.2)
        os.kill(peer.pid, signal.SIGCONT)
        event = search.get(60)
        assert event.kind == "changed" and not event.entry.suspect
    assert registry.ping(registry.owner("engine"), 30) > 0


def test_ping_info_and_statistics_are_answered_by_the_process(stage):
    plain, loop = stage.peer(), stage.peer("asyncio")
    for peer, name in ((plain, "plain"), (loop, "loop")):
        peer.do("register", name, {})
        entry = registry.owner(name)
        assert entry.pid == peer.pid and registry.ping(entry, 30) > 0
        info = registry.ask(entry, "info", 30)
        assert info["registrations"] == 1 and info["kvoshim"]
        statistics = registry.ask(entry, "statistics", 30)
        assert statistics["pings"] == 1 and statistics["questions"] == 2 and statistics["program"] == {"answer": 42}
    assert loop.do("threads") == ["MainThread"]  # its event loop answers
    assert "kvoshim-registry" in plain.do("threads")
    assert plain.do("ask", "loop", "statistics")["pings"] == 1
    assert loop.do("ask", "plain", "statistics")["pings"] == 1
    assert loop.do("ask", "loop", "info")["registrations"] == 1  # itself


def test_a_program_whose_event_loop_is_held_up_does_not_answer(stage):
    loop = stage.peer("asyncio")
    loop.do("register", "loop", {})
    entry = registry.owner("loop")
    loop.tell("busy", 1.0)
    with pytest.raises(NoAnswerError):
        while True:  # until the command has begun
            registry.ping(entry, 0.1)
    loop.answer()
    assert registry.ping(entry, 30) > 0


def test_who_dies_while_it_is_asked(stage):
    peer = stage.peer()
    peer.do("register", "engine", {})
    entry = registry.owner("engine")
    os.kill(peer.pid, signal.SIGSTOP)
    with pytest.raises(NoAnswerError):
        registry.ping(entry, 0.1)
    peer.kill()
    until(lambda: registry.find("engine") == [])
    with pytest.raises(UnknownNameError):
        registry.ping(entry, 30)


def test_waiting_costs_nothing(stage):
    peers = [stage.peer(), stage.peer("asyncio")]
    for number, peer in enumerate(peers):
        peer.do("register", f"n{number}", {})
        peer.do("watch", "*")
    with registry.watch("*"):
        until(lambda: all(len(peer.seen("end")) == 1 for peer in peers))
        time.sleep(0.5)
        processes = [psutil.Process(pid) for pid in (stage.registry_pid(), *(peer.pid for peer in peers))]

        def used():
            return [sum(process.cpu_times()[:2]) for process in processes]

        before = used()
        time.sleep(2)
        # The look after stopped processes is all there is. The clock counts in 10 ms.
        assert max(after - earlier for after, earlier in zip(used(), before, strict=True)) <= 0.03


def test_nothing_grows_with_the_number_of_those_who_were(stage):
    with registry.register("anchor"):
        daemon = psutil.Process(stage.registry_pid())

        def turn():
            peer = stage.peer()
            peer.do("register", "engine", {})
            peer.do("watch", "*")
            peer.close()
            stage.peers.remove(peer)
            until(lambda: not registry.find("engine"))

        for _ in range(3):
            turn()
        before = daemon.num_fds(), len(daemon.memory_maps())
        for _ in range(10):
            turn()
        until(lambda: (daemon.num_fds(), len(daemon.memory_maps())) == before, f"as before: {before}")
