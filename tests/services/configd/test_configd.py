"""configd as its clients see it: a real daemon, real kills."""

import json
import os
import signal
import socket
import threading

import pytest

from kvoshim.errors import ConflictError, InvalidServiceError, LimitError, RepositoryUnavailableError, UnknownServiceError
from kvoshim.process.framing import frame
from kvoshim.services.configd import wire
from kvoshim.services.configd.client import updated
from kvoshim.services.core import composing
from kvoshim.services.core.model import Definition, Method
from kvoshim.services.core.operations import Delete, Enable, Expect, Import, Refresh, Report, SetProperty

WEB = Import(
    service="web",
    definition=Definition(groups={"config": {"workers": 1}}, methods={"start": Method(("/bin/sleep", "9"))}),
    instances={"default": Definition()},
)


def workers(number: int, **more) -> SetProperty:
    return SetProperty(target="web:default", group="config", name="workers", value=number, **more)


def test_a_transaction_is_seen_whole_or_not_at_all(stage):
    stage.start()
    with stage.client() as one, stage.client() as other:
        assert one.transact(WEB).revision == 1
        with pytest.raises(UnknownServiceError, match="operation 2 .*no service 'gone'"):
            one.transact(workers(5), SetProperty(target="gone", group="a", name="b", value=1))
        here = other.read("web", "gone")
        assert here.revision == 1 and list(here.services) == ["web"]
        assert composing.edited(here.services["web"], here.services["web"].instances["default"]).get("config", "workers") == 1
        done = one.transact(workers(5), Refresh(target="web:default"))
        assert [event.kind for event in done.events] == ["edited", "refreshed"]
        assert composing.running(other.read().services["web"].instances["default"]).get("config", "workers") == 5


def test_compare_and_set_by_revision_of_the_repository_and_of_a_target(stage):
    stage.start()
    with stage.client() as one, stage.client() as other:
        one.transact(Expect(target="web", revision=0), WEB)
        other.transact(workers(2), expected=1)
        with pytest.raises(ConflictError, match="has revision 2, not 1"):
            one.transact(workers(3), expected=1)
        with pytest.raises(ConflictError, match="web:default has revision 2, revision 1 was expected"):
            one.transact(Expect(target="web:default", revision=1), workers(3))
        # Reports of states are no changes of the configuration: nobody's comparison fails for them.
        other.transact(Report(target="web:default", properties={"state": "online"}))
        assert one.transact(Expect(target="web:default", revision=2), workers(3), expected=2).revision == 3


def test_many_clients_share_a_sync_and_none_is_lost(stage):
    stage.start()
    with stage.client() as client:
        client.transact(WEB)
    errors = []

    def count_up(times: int) -> None:
        with stage.client() as client:
            done = 0
            while done < times:
                here = client.read("web").services["web"].instances["default"]
                now = here.layers["admin"].groups["config"]["workers"] if here.layers.get("admin") else 0
                try:
                    client.transact(Expect(target="web:default", revision=here.revision), workers(now + 1))
                    done += 1
                except ConflictError:
                    continue
                except Exception as error:
                    errors.append(error)
                    return

    threads = [threading.Thread(target=count_up, args=(25,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with stage.client() as client:
        assert client.read("web").services["web"].instances["default"].layers["admin"].groups["config"]["workers"] == 100
        requests = [client.submit([workers(number)]) for number in range(200)]
        answers = []
        while len(answers) < 200:
            answers += client.receive(None)
        assert [request for request, _ in answers] == requests
    statistics = stage.control("statistic-get-all")
    assert statistics["syncs"][0][0] < statistics["transactions"][0][0] - 100


def test_changes_are_told_in_order_and_none_is_missed(stage):
    stage.start()
    with stage.client() as watcher, stage.client() as client:
        assert watcher.watch().services == {}
        client.transact(WEB)
        for number in range(2, 30):
            client.transact(workers(number))
        client.transact(Enable(target="web:default"))
        told = []
        while not told or told[-1].revision < 30:
            told += watcher.changes(30)
        kinds = [event.kind for one in told for event in one.events]
        assert kinds == ["created", "created", "refreshed", "edited", *["edited"] * 28, "enabled"]
        assert [one.revision for one in told] == sorted({one.revision for one in told})
        services = {}
        for one in told:
            services = updated(services, one)
        assert services == client.read().services
        client.transact(Report(target="web:default", properties={"state": "online"}))
        client.transact(Import(service="other"))
        client.transact(Delete(target="other"))
        while told[-1].pulse < 33:
            told = watcher.changes(30)
            for one in told:
                services = updated(services, one)
        assert services == client.read().services and services["web"].instances["default"].volatile


def test_killed_at_random_it_has_what_it_has_acknowledged(stage):
    """A real kill -9 amid commits, on a real disk."""
    acknowledged = 0
    for _ in range(6):
        daemon = stage.start()
        with stage.client() as client:
            if not acknowledged:
                client.transact(WEB)
            kept = client.read("web").services["web"].instances["default"]
            now = kept.layers["admin"].groups["config"]["workers"] if kept.layers else 0
            assert now in (acknowledged, acknowledged + 1)
            killer = threading.Timer(0.15, daemon.send_signal, [signal.SIGKILL])
            killer.start()
            try:
                while True:
                    now += 1
                    client.transact(workers(now))
                    acknowledged = now
            except RepositoryUnavailableError:
                killer.join()
            stage.end(daemon, signal.SIGKILL)
    assert acknowledged > 6


def test_volatile_groups_survive_the_daemon_and_not_the_boot(stage):
    daemon = stage.start("--epoch", "one")
    with stage.client() as client:
        client.transact(WEB)
        client.transact(Report(target="web:default", properties={"state": "online", "since": 1.5}))
        client.transact(Enable(target="web:default", temporary=True), workers(4))
    stage.end(daemon, signal.SIGKILL)
    daemon = stage.start("--epoch", "one")
    with stage.client() as client:
        service = client.read("web").services["web"]
        assert service.instances["default"].volatile == {"restarter": {"state": "online", "since": 1.5}, "override": {"enabled": True}}
        assert composing.enabled(service, service.instances["default"])
    stage.end(daemon, signal.SIGKILL)
    stage.start("--epoch", "two")
    with stage.client() as client:
        service = client.read("web").services["web"]
        assert service.instances["default"].volatile == {}
        assert not composing.enabled(service, service.instances["default"])
        assert service.instances["default"].layers["admin"].groups["config"]["workers"] == 4


def test_who_does_not_keep_to_the_protocol_is_sent_away_and_nobody_else_notices(stage):
    stage.start()
    with stage.client() as client:
        for sent in (b"\xff\xff\xff\xff", b"\4\0\0\0junk", frame(wire.Read(1)), frame(wire.Hello(99, "old"))):
            with socket.socket(socket.AF_UNIX) as raw:
                raw.connect(client.path)
                raw.sendall(sent)
                raw.settimeout(30)
                said = b""
                while data := raw.recv(4096):
                    said += data
                assert b"protocol" in said
        assert client.transact(WEB).revision == 1
        with pytest.raises(InvalidServiceError, match="10000 operations"):
            client.transact(*[Refresh(target="web:default")] * 10001)
        assert client.read().revision == 1


def as_nobody(path: str, *messages) -> bytes:
    """What configd says to another user's process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as raw:
                raw.settimeout(30)
                raw.connect(path)
                raw.sendall(b"".join(frame(message) for message in messages))
                raw.shutdown(socket.SHUT_WR)
                while data := raw.recv(65536):
                    os.write(writer, data)
        except OSError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as said:
        result = said.read()
    os.waitpid(pid, 0)
    return result


def test_other_users_may_what_the_rules_say(stage, place):
    stage.directory.mkdir(mode=0o755)
    config = place / "configd.json"
    rules = [{"user": 65534, "allow": ["read", "enable"], "names": ["web"]}]
    config.write_text(json.dumps({"configd": {"access": rules}}))
    stage.start("--config", str(config))
    with stage.client() as client:
        client.transact(WEB)
        client.transact(Import(service="secret", definition=Definition(groups={"config": {"key": "hidden"}})))
        hello = wire.Hello(wire.VERSION, "nobody")
        said = as_nobody(client.path, hello, wire.Read(1), wire.Transact(2, (Enable(target="web:default"),)))
        assert b"sleep" in said and b"hidden" not in said and b"enabled" in said
        said = as_nobody(client.path, hello, wire.Transact(1, (workers(9),)))
        assert b"access" in said and b"may not change 'web'" in said
        assert client.read().revision == 3
    stage.end(stage.daemons[0])
    stage.start()  # without rules
    assert as_nobody(str(stage.directory / "configd.sock"), hello) == b"[Errno 13] Permission denied"


def test_limits(stage, place):
    config = place / "configd.json"
    config.write_text(json.dumps({"configd": {"limits": {"services": 2, "clients": 2}}}))
    stage.start("--config", str(config))
    with stage.client() as client, stage.client():
        with pytest.raises(LimitError, match="2 clients, its limit"):
            stage.client()
        client.transact(WEB, Import(service="two"))
        with pytest.raises(LimitError, match="may have 2 services"):
            client.transact(Import(service="three"))


def test_states_are_published_for_observation(stage, monkeypatch):
    from kvoshim.kvo.observer import Observer

    stage.start("--epoch", "one")
    with stage.client() as client:
        client.transact(WEB)
        client.transact(Report(target="web:default", properties={"state": "offline"}))
        stage.start("--socket", stage.environment["KVOSHIM_CONTROLLER"], command="controller")  # it comes later, as it may
        monkeypatch.setenv("KVOSHIM_CONTROLLER", stage.environment["KVOSHIM_CONTROLLER"])
        seen, came = [], threading.Condition()

        def note(change) -> None:
            with came:
                seen.append((change.key, change.new))
                came.notify()

        with Observer(autostart=False) as observer:
            observer.observe("services", None, note)

            def wait(key, value) -> None:
                with came:
                    assert came.wait_for(lambda: (key, value) in seen, 30), seen

            wait("web:default", {"state": "offline", "enabled": False})
            client.transact(Report(target="web:default", properties={"state": "online"}), Enable(target="web:default"))
            wait("web:default", {"state": "online", "enabled": True})
            wait("revision", 2)


def test_states_go_on_being_published_when_the_controller_has_died(stage, monkeypatch):
    from kvoshim.kvo.observer import Observer

    stage.start()
    controller = stage.environment["KVOSHIM_CONTROLLER"]
    first = stage.start("--socket", controller, command="controller")
    monkeypatch.setenv("KVOSHIM_CONTROLLER", controller)
    with stage.client() as client, Observer(autostart=False) as observer:
        client.transact(WEB)
        states, came = [], threading.Condition()

        def note(change) -> None:
            with came:
                states.append(change.new and change.new.get("state"))
                came.notify()

        def wait(state) -> None:
            with came:
                assert came.wait_for(lambda: state in states, 60), states

        observer.observe("services", "web:default", note)
        client.transact(Report(target="web:default", properties={"state": "one"}))
        wait("one")
        stage.end(first, signal.SIGKILL)
        client.transact(Report(target="web:default", properties={"state": "two"}))
        stage.start("--socket", controller, command="controller")
        wait("two")
        client.transact(Delete(target="web"))
        wait(None)
        assert client.read().services == {}


def test_a_client_that_does_not_read_holds_up_nobody(stage):
    stage.start()
    with stage.client() as idle, stage.client() as client:
        client.transact(WEB)
        idle.watch()
        big = "x" * 60000
        for number in range(60):
            client.transact(SetProperty(target="web:default", group="config", name="text", value=f"{number}{big}"))
        assert client.read().revision == 61
        told = []
        while not told or told[-1].revision < 61:
            told += idle.changes(60)
        assert sum(len(one.events) for one in told) == 60


def test_files_are_written_on_the_way_and_commits_go_on(stage, place):
    config = place / "configd.json"
    config.write_text(json.dumps({"configd": {"checkpoint-bytes": 4096}}))
    daemon = stage.start("--config", str(config))
    with stage.client() as client:
        client.transact(*[Import(service=f"s{number}", definition=WEB.definition, instances=WEB.instances) for number in range(30)])
        for number in range(300):
            client.transact(SetProperty(target=f"s{number % 30}:default", group="config", name="workers", value=number))
        before = client.read()
    names = set(os.listdir(stage.directory))
    assert "journal-000001" not in names and sum(name.startswith("journal-") for name in names) <= 2
    stage.end(daemon, signal.SIGKILL)
    stage.start("--config", str(config))
    with stage.client() as client:
        assert client.read().services == before.services
    assert stage.control("checkpoint")["revision"] == before.revision
    assert stage.control("backup-list")["backups"]
