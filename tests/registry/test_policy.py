"""Whom the registry admits, and what offers it refuses: the registry of all users of a host."""

import json
import os
import signal

import pytest
from registry_harness import until

from kvoshim import registry
from kvoshim.errors import AccessDeniedError, ConfigurationError
from kvoshim.process.access import Caller
from kvoshim.registry.daemon.policy import Policy, Rule

pytestmark = pytest.mark.skipif(os.geteuid() != 0 and not os.environ.get("CI"), reason="needs to be root, to have two users")
ALICE, BOB = 54321, 54322


def caller(uid, *groups):
    return Caller(1, uid, frozenset(groups))


def refused(policy, who, name):
    try:
        policy.check(who, "register", name)
    except AccessDeniedError as error:
        return str(error)
    return ""


def test_the_first_rule_that_concerns_an_offer_decides():
    policy = Policy((
        Rule(deny=("register",), user=ALICE, names=("secret*",), rule="not for Alice"),
        Rule(allow=("register",), group=7, names=("team-*",)),
        Rule(allow=("register",), user=ALICE),
    ))  # fmt: skip
    assert "rule 1 of the access rules, 'not for Alice'" in refused(policy, caller(ALICE), "secret-x")
    assert not refused(policy, caller(ALICE), "anything")
    assert not refused(policy, caller(BOB, 7), "team-x")
    assert "no rule admits it" in refused(policy, caller(BOB, 7), "other")
    assert "no rule admits it" in refused(policy, caller(BOB), "team-x")
    assert not refused(policy, caller(os.geteuid()), "secret") and not refused(policy, caller(0), "secret")


def test_who_may_find():
    nobody, everybody = Policy(), Policy(for_all=True)
    with pytest.raises(AccessDeniedError):
        nobody.check_client(caller(BOB))
    everybody.check_client(caller(BOB))
    nobody.check_client(caller(os.geteuid()))
    with pytest.raises(AccessDeniedError, match="rule 1"):
        Policy((Rule(deny=("find",), user=BOB),), for_all=True).check_client(caller(BOB))
    assert not nobody.for_others and everybody.for_others


@pytest.mark.parametrize("fields", [
    {"allow": ("find",)}, {"allow": ("find",), "deny": ("find",), "user": 1}, {"user": 1}, {"allow": ("find",), "user": 1, "group": 1},
    {"allow": ("find",), "user": 1, "names": ("",)},
])  # fmt: skip
def test_rules_that_cannot_be(fields):
    with pytest.raises(ValueError):
        Rule(**fields)


def test_a_user_that_there_is_not():
    with pytest.raises(ConfigurationError, match="no user 'nobody-at-all'"):
        Policy((Rule(allow=("find",), user="nobody-at-all"),))


@pytest.fixture
def host(stage):
    """The registry of the host, and peers of two other users."""
    (stage.directory / "registry.json").write_text(json.dumps({"host": {"directory": str(stage.directory / "host")}}))
    config = stage.configure(access=[
        {"allow": ["register"], "user": 0},
        {"rule": "names that people trust", "deny": ["register"], "user": "*", "names": ["system-*"]},
        {"allow": ["register"], "user": ALICE, "names": ["alice-*"]},
    ])  # fmt: skip
    daemon = stage.serve("--scope", "host", "--config", str(config))

    def peer(user):
        run = stage.directory / f"run{user}-{len(stage.peers)}"
        run.mkdir()
        os.chown(run, user, user)
        run.chmod(0o700)
        return stage.peer(user=user, XDG_RUNTIME_DIR=str(run), HOME=str(run))

    return stage, daemon, peer


def test_an_application_chooses_its_reach_and_the_registry_may_refuse(host):
    stage, _, peer = host
    alice, bob = peer(ALICE), peer(BOB)
    alice.do("register", "alice-web", {"reach": "host", "address": "/srv/alice.sock"})
    with pytest.raises(AssertionError, match="AccessDeniedError: user 54321 may not register 'system-log': rule 2"):
        alice.do("register", "system-log", {"reach": "host"}, "refused")
    with pytest.raises(AssertionError, match="AccessDeniedError: user 54322 may not register 'alice-web': no rule admits it"):
        bob.do("register", "alice-web", {"reach": "host"}, "refused")
    (seen,) = bob.do("find", "*", "host")
    assert (seen["name"], seen["uid"], seen["address"], seen["reach"]) == ("alice-web", ALICE, "/srv/alice.sock", "host")
    with registry.register("system-log", reach="host"):  # the registry's own user
        assert [entry["name"] for entry in bob.do("find", "*", "host")] == ["alice-web", "system-log"]
    assert registry.find() == []
    bob.do("watch", "*", "host")
    until(lambda: bob.seen("end"))
    alice.kill()
    until(lambda: bob.seen("removed"))


def test_a_new_policy_is_in_force_for_who_is_there(host):
    stage, daemon, peer = host
    alice = peer(ALICE)
    alice.do("register", "alice-web", {"reach": "host"})
    assert len(registry.find(reach="host")) == 1
    stage.configure(access=[{"deny": ["register"], "user": ALICE}])
    daemon.send_signal(signal.SIGHUP)
    until(lambda: registry.find(reach="host") == [])
    until(lambda: alice.seen("lost"))
    assert "may not register" in alice.events[-1]["error"]


def test_a_users_quota(host):
    stage, daemon, peer = host
    stage.configure(access=[{"allow": ["register"], "user": "*"}], limits={"per-user": {"entries": 3, "clients": 2}})
    daemon.send_signal(signal.SIGHUP)
    until(lambda: stage.log_text().count("SIGHUP"))
    first, second, third = peer(BOB), peer(BOB), peer(BOB)
    first.do("register", "a", {"reach": "host"})
    second.do("register", "b", {"reach": "host"})
    first.do("register", "c", {"reach": "host"})
    with pytest.raises(AssertionError, match="LimitError: user 54322 may register 3 entries"):
        second.do("register", "d", {"reach": "host"})
    with pytest.raises(AssertionError, match="LimitError: user 54322 may have 2 connections"):
        third.do("find", "*", "host")
    assert len(registry.find(reach="host")) == 3
