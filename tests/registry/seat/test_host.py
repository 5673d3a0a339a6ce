"""The registry of all users of a host: its directory and its user stand in a global file, and only that user starts it."""

import json
import os
import signal
import stat

import pytest
from seat_faults import OTHER, as_root
from seat_harness import HOLDER, said_pid, until

from kvoshim.errors import ConfigurationError, RegistryHungError, RegistryPlaceError, RegistryUnavailableError
from kvoshim.registry import seat
from kvoshim.registry.seat import hostwide
from kvoshim.registry.seat.explaining import FAILS, RUNS, STARTS

HOST = seat.Scope("host")
STRANGER = OTHER + 1


def configure(stage, **host) -> None:
    """Writes the global file; what other parts keep in it is none of the seat's business."""
    path = stage.directory / "registry.json"
    path.write_text("# for all users\n" + json.dumps({"host": host, "remote": [1, 2]}))
    path.chmod(0o644)


@pytest.fixture
def host(stage):
    configure(stage, directory=str(stage.directory / "host"), user=os.geteuid())
    return stage.directory / "host"


def user_environment(stage, user: int) -> dict[str, str]:
    """The directories of another user."""
    home = stage.directory / f"home{user}"
    home.mkdir(0o700)
    os.chown(home, user, user)
    return {"HOME": str(home), "XDG_RUNTIME_DIR": str(home), "KVOSHIM_LOG_FILE": str(home / "log"), "KVOSHIM_REGISTRY": "host"}


@as_root
def test_every_user_finds_it(stage, host):
    """(f) per host for all users: real ones."""
    pid = said_pid(stage.connect(HOST))
    clients = [stage.client(user=user, **user_environment(stage, user)) for user in (OTHER, STRANGER)]
    assert [client.do("connect") for client in clients] == [{"pid": pid, "address": str(host / "registry.sock"), "scope": "host"}] * 2
    assert [stat.S_IMODE(path.stat().st_mode) for path in (host, host / "registry", host / "registry.sock")] == [0o755, 0o644, 0o666]
    assert stat.S_IMODE((host / ".registry.lock").stat().st_mode) == 0o600
    assert not stage.own_file.parent.exists() and not stage.port_file.parent.exists()


@as_root
def test_each_user_has_one_of_their_own_beside_it(stage, host):
    """(a), (d): nobody's own registry is another's."""
    everybodys = said_pid(stage.connect(HOST))
    pids = {said_pid(stage.connect()), everybodys}
    for user in (OTHER, STRANGER):
        environment = user_environment(stage, user) | {"KVOSHIM_REGISTRY": "user"}
        answer = stage.client(*HOLDER, user=user, **environment).do("connect")
        assert os.stat(answer["address"]).st_uid == user
        pids.add(answer["pid"])
        os.kill(answer["pid"], signal.SIGTERM)
    assert len(pids) == 4


@as_root
def test_only_its_user_starts_it(stage, host):
    """(f): who may not, is told who may."""
    client = stage.client(*HOLDER, user=OTHER, **user_environment(stage, OTHER))
    answer = client.do("connect")
    assert answer["error"] == "RegistryUnavailableError" and f"only user {os.geteuid()} may start it" in answer["text"]
    assert not host.exists()
    pid = said_pid(stage.connect(HOST))
    assert client.do("connect")["pid"] == pid
    stage.stop(pid)
    with pytest.raises(RegistryHungError):
        seat.connect(HOST, timeout=1.2, start=HOLDER)
    os.kill(pid, signal.SIGCONT)


@as_root
def test_another_user_cannot_pose_as_it(stage, host):
    """(f): a stranger's registry, in a directory that is open by mistake, with everything as it should be but its user."""
    host.mkdir()
    os.chown(host, OTHER, OTHER)
    with pytest.raises(RegistryPlaceError, match=f"belongs to user {OTHER}"):
        seat.claim(HOST)
    configure(stage, directory=str(host), user=OTHER)
    environment = user_environment(stage, OTHER)
    (stage.directory / "registry.json").chmod(0o644)
    impostor = stage.client(*HOLDER, user=OTHER, **environment).do("connect")
    assert impostor["scope"] == "host"
    configure(stage, directory=str(host), user=os.geteuid())
    with pytest.raises(RegistryUnavailableError, match=f"it belongs to user {OTHER}"):
        seat.connect(HOST, start=False)
    for name in os.listdir(host):
        if stat.S_ISREG((host / name).stat().st_mode):
            os.chown(host / name, 0, 0)
    with pytest.raises(RegistryUnavailableError, match=f"is a stranger: it is user {OTHER}'s"):
        seat.connect(HOST, start=False)
    os.kill(impostor["pid"], signal.SIGKILL)


def test_it_dies_and_its_user_starts_another(stage, host):
    """(i) for this scope, too."""
    pid = said_pid(stage.connect(HOST))
    stage.kill(pid)
    contact = stage.race(HOST)
    assert said_pid(contact) != pid and contact.address == str(host / "registry.sock")


def test_its_explanation(stage, host):
    found = seat.explain(HOST)
    assert found.outcome == STARTS and str(host) in found.steps[1].words
    pid = said_pid(stage.connect(HOST))
    assert (seat.explain(HOST).outcome, seat.explain(HOST).pid) == (RUNS, pid)
    stage.kill(pid)
    configure(stage, directory=str(host), user=OTHER)
    found = seat.explain(HOST)
    assert found.outcome == FAILS and f"only user {OTHER} may start it" in found.words


# --- the global file ---------------------------------------------


def test_without_a_file(stage):
    assert hostwide.settings() == hostwide.Hostwide("/run/kvoshim", 0)
    configure(stage)
    assert hostwide.settings() == hostwide.Hostwide("/run/kvoshim", 0)
    configure(stage, user="nobody")
    assert hostwide.settings().owner == 65534


@pytest.mark.parametrize(
    "text, problem",
    [
        ("{", "registry.json:1:2"),
        ("[]", "holds no JSON object"),
        ('{"host": 7}', "host: Expected"),
        ('{"host": {"directory": "x"}}', "directory is a whole path"),
        ('{"host": {"directory": 7}}', "directory"),
        ('{"host": {"user": "no such user"}}', "there is no user 'no such user'"),
        ('{"host": {"directorry": "/x"}}', "unknown field"),
    ],
)
def test_a_global_file_that_is_not_valid(stage, text, problem):
    (stage.directory / "registry.json").write_text(text)
    with pytest.raises(ConfigurationError, match=problem):
        seat.connect(HOST)
    found = seat.explain(HOST)
    assert found.outcome == FAILS and problem.split(":")[0] in found.words


@as_root
def test_a_global_file_that_is_not_trusted(stage, host):
    path = stage.directory / "registry.json"
    path.chmod(0o666)
    with pytest.raises(ConfigurationError, match="not to be trusted.*mode 666"):
        hostwide.settings()
    path.chmod(0o644)
    os.chown(path, OTHER, OTHER)
    with pytest.raises(ConfigurationError, match=f"not to be trusted: it belongs to user {OTHER}"):
        hostwide.settings()
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigurationError, match="is not a file"):
        hostwide.settings()


def test_a_directory_that_others_may_write_to(stage, host):
    host.mkdir()
    host.chmod(0o777)
    with pytest.raises(RegistryPlaceError, match=r"others may use it \(mode 777\)"):
        seat.claim(HOST)
    assert until(lambda: seat.explain(HOST).outcome == STARTS)
