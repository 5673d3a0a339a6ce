"""Who may observe and publish what: the rules, what they do to clients of other users, and how a change of them takes
effect on what is there already."""

import os
import signal

import pytest
from kvo_harness import WAIT_S, until

import kvoshim
from kvoshim.errors import AccessDeniedError, ConfigurationError, ControlError
from kvoshim.kvo.controller.policy import Policy, Rule
from kvoshim.process import Caller, ControlClient

NOBODY, OTHER, GROUP = 65534, 70001, 80001
ENGINE = {"allow": ["observe"], "user": NOBODY, "names": ["engine", "engine.**"], "rule": "who looks at engines"}


@pytest.fixture
def others():
    """Other users than this one can be had."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("these tests need root, to become another user")
        pytest.skip("only root can become another user")


@pytest.fixture
def serve(place, others):
    """serve(*rules, **settings): a controller that others can reach. Gives its control channel."""
    clients = []

    def serve(*rules, **section):
        place.open_to_others()
        place.controller("--config", str(place.configure(access=list(rules), **section)))
        clients.append(ControlClient(place.socket + ".ctl", WAIT_S))
        return clients[0]

    yield serve
    for client in clients:
        client.close()


def refused(peer, *command):
    """The error's text."""
    with pytest.raises(AssertionError) as caught:
        peer.do(*command)
    return str(caught.value).splitlines()[0]


# --- the rules ---------------------------------------------


def policy(*rules):
    return Policy(tuple(Rule(**rule) for rule in rules))


ME, SOMEBODY = Caller(1, os.geteuid(), frozenset()), Caller(2, OTHER, frozenset([GROUP, 80002]))


@pytest.mark.parametrize(
    "rules, observed, published",
    [
        ([], "", ""),
        ([{"allow": ["observe"], "user": OTHER, "names": ["a"]}], "a", ""),
        ([{"allow": ["observe"], "user": NOBODY}], "", ""),
        ([{"allow": ["observe", "publish"], "user": "*", "names": ["a*", "b.*"]}], "a aa b.c", "a aa b.c"),
        ([{"allow": ["publish"], "group": GROUP, "names": ["b.**"]}], "", "b.c b.c.d"),
        ([{"deny": ["observe"], "user": "*", "names": ["b.**"]}, {"allow": ["observe"], "group": GROUP}], "a aa", ""),
        ([{"allow": ["observe"], "group": GROUP}, {"deny": ["observe"], "user": "*"}], "a aa b.c b.c.d", ""),
    ],
)
def test_the_first_rule_that_concerns_it_decides(rules, observed, published):
    names = ["a", "aa", "b.c", "b.c.d"]
    chosen = policy(*rules)
    assert [name for name in names if chosen.allows(SOMEBODY, "observe", name)] == observed.split()
    assert [name for name in names if chosen.allows(SOMEBODY, "publish", name)] == published.split()
    assert chosen.admits(SOMEBODY) == bool(observed or published)
    assert chosen.for_others == any("allow" in rule for rule in rules)


def test_the_own_user_may_do_what_no_rule_forbids():
    chosen = policy({"deny": ["publish"], "user": "*", "names": ["engine"], "rule": "reserved"})
    assert chosen.allows(ME, "observe", "engine") and chosen.allows(ME, "publish", "gear")
    with pytest.raises(AccessDeniedError, match="may not publish 'engine': rule 1 of the access rules, 'reserved'"):
        chosen.check(ME, "publish", "engine")


@pytest.mark.parametrize(
    "rule, problem",
    [
        ({"allow": ["observe"]}, "one of user and group"),
        ({"allow": ["observe"], "user": 1, "group": 1}, "one of user and group"),
        ({"user": 1}, "one of allow and deny"),
        ({"allow": ["observe"], "deny": ["publish"], "user": 1}, "one of allow and deny"),
        ({"allow": ["observe"], "user": 1, "names": [""]}, "1 to 255 bytes"),
    ],
)
def test_a_rule_that_says_nothing_clear_is_refused(rule, problem):
    with pytest.raises(ValueError, match=problem):
        Rule(**rule)


def test_names_of_users_are_looked_up():
    assert policy({"allow": ["observe"], "user": "root"}).admits(Caller(1, 0, frozenset()))
    with pytest.raises(ConfigurationError, match="there is no group 'no-such-group'"):
        policy({"allow": ["observe"], "group": "no-such-group"})


# --- clients of other users ---------------------------------------------


def test_a_user_whom_no_rule_admits_is_turned_away(place, serve):
    serve(ENGINE)
    stranger = place.peer(OTHER)
    assert f"AccessDeniedError: user {OTHER} may not use this controller" in refused(stranger, "observables_known")
    assert f"AccessDeniedError: user {OTHER}" in refused(stranger, "publish", "engine")
    until(lambda: f"connection refused: user {OTHER}" in place.log_text())


def test_without_rules_the_socket_is_closed_to_others(place, serve):
    serve()
    assert os.stat(place.socket).st_mode & 0o777 == 0o600
    assert "ControllerUnavailableError" in refused(place.peer(OTHER), "observables_known")


def test_an_observer_gets_what_the_rules_admit_and_nothing_else(place, serve):
    serve(ENGINE)
    looker = place.peer(NOBODY)
    with kvoshim.Observable("engine.left") as engine, kvoshim.Observable("vault") as vault:
        engine["rpm"], vault["key"] = 900, "secret"
        assert looker.do("get", "engine.left", "rpm") == 900
        looker.do("observe", "engine.left", "rpm")
        engine["rpm"] = 901
        until(lambda: looker.values("rpm")[-1:] == [901])
        for target in ("vault", "no such name"):  # a name that one may not observe is not even known to be one
            for command in (("get", target, "key"), ("observe", target, "key"), ("observe", target, None)):
                text = refused(looker, *command)
                assert f"AccessDeniedError: user {NOBODY} may not observe {target!r}: no rule admits it" in text
        assert looker.do("get", os.getpid(), "rpm") == 901, "of the PID's observables it is the only one to be seen"
        assert [row["name"] for row in looker.do("observables_known")] == ["engine.left"]
        assert "AccessDeniedError" in refused(looker, "publish", "engine")


def test_a_publisher_has_the_names_that_the_rules_admit(place, serve):
    serve({"allow": ["publish"], "group": GROUP, "names": ["robot.*"]}, {"deny": ["publish"], "user": "*", "names": ["robot.*"]})
    robot = place.peer(NOBODY, [GROUP])
    robot.do("publish", "robot.1")
    robot.do("set", "robot.1", "x", 1)
    assert f"AccessDeniedError: user {NOBODY} may not publish 'engine'" in refused(robot, "publish", "engine")
    assert "may not observe 'robot.1'" in refused(robot, "get", "robot.1", "x")
    assert [row["name"] for row in robot.do("observables_known")] == ["robot.1"]
    with kvoshim.Observer() as observer:
        seen = []
        observer.observe("robot.1", "x", lambda change: seen.append(change.new))
        robot.do("set", "robot.1", "x", 2)
        until(lambda: seen[-1:] == [2])
    with pytest.raises(AccessDeniedError, match="may not publish 'robot.2': rule 2 of the access rules"):
        kvoshim.Observable("robot.2")  # root itself


def test_a_successor_that_may_not_read_takes_nothing_over_but_goes_on_above(place, serve):
    serve({"allow": ["publish"], "user": NOBODY, "names": ["shared"]})
    with kvoshim.Observable("shared") as before:
        before["old"] = "not for others"
        revision = before.revision()
    successor = place.peer(NOBODY)
    successor.do("publish", "shared")
    assert successor.do("set", "shared", "x", 1) > revision
    with kvoshim.Observer() as observer:
        assert observer.keys("shared") == ["x"]


# --- changes of the rules ---------------------------------------------


def test_a_new_policy_ends_what_it_does_not_admit(place, serve):
    both = {"allow": ["observe", "publish"], "user": NOBODY, "names": ["engine", "gear"]}
    ctl = serve(both)
    other = place.peer(NOBODY)
    with kvoshim.Observable("engine") as engine, kvoshim.Observer() as observer:
        engine["rpm"] = 1
        other.do("observe", "engine", "rpm")
        other.do("observe", "engine", None)
        until(lambda: other.do("delivery", "engine", "rpm") == "direct" and engine._writer.linked == 1)
        other.do("publish", "gear")
        other.do("set", "gear", "n", 1)
        seen = []
        observer.observe("gear", "n", seen.append)
        until(lambda: len(other.values("rpm")) == 2 and seen)

        ctl.call("config-set", {"controller": {"access": [
            {"deny": ["observe"], "user": NOBODY, "names": ["engine"], "rule": "engines are private"},
            {"deny": ["publish"], "user": NOBODY, "rule": "nothing new"}, both]}})
        until(lambda: sum(event["kind"] == "error" for event in other.events) == 2)
        for event in [event for event in other.events if event["kind"] == "error"]:
            assert event["error"] == (
                f"user {NOBODY} may not observe 'engine': rule 1 of the access rules, 'engines are private'")
        assert other.do("alive", "engine", "rpm") == ["closed", False]
        until(lambda: engine._writer.linked == 0, "its bell is let go of")
        assert "AccessDeniedError" in refused(other, "get", "engine", "rpm")
        until(lambda: seen[-1].kind == "gone")
        for command in (("set", "gear", "n", 2), ("delete", "gear", "n")):
            assert "AccessDeniedError: user 65534 may not publish 'gear': rule 2" in refused(other, *command)
        known = len(other.events)
        engine["rpm"] = 2
        assert observer.get("gear", "n") == 1, "what was published before is kept"
        rows = {row["name"]: row["observers"] for row in observer.observables()}
        assert rows["engine"] == [] and len(rows["gear"]) == 1

        ctl.call("config-set", {"controller": {"access": [both]}})
        other.do("observe", "engine", "rpm")
        until(lambda: other.values("rpm")[-1:] == [2])
        assert other.events[known]["kind"] == "initial", "nothing came in between"
        other.do("close", "gear")
        other.do("publish", "gear")
        assert other.do("set", "gear", "n", 3)
        until(lambda: observer.get("gear", "n") == 3)


def test_who_may_observe_nothing_has_no_bell(place, serve):
    """What it hands in is mapped by nobody."""
    serve({"allow": ["publish"], "user": NOBODY})
    other = place.peer(NOBODY)
    other.do("publish", "gear")
    assert "may observe nothing" in other.do("attack", "hand_in_a_bell", place.socket)
    with kvoshim.Observable("engine"):
        assert "may not observe 'engine'" in refused(other, "observe", "engine", None)
        assert "may not observe 'gear'" in refused(other, "observe", "gear", None)
    assert other.do("set", "gear", "n", 1)


def test_a_hangup_with_other_rules(place, serve):
    ctl = serve(ENGINE)
    other = place.peer(NOBODY)
    with kvoshim.Observable("engine") as engine:
        engine["rpm"] = 1
        other.do("observe", "engine", "rpm")
        place.configure(access=[{**ENGINE, "user": "no such user"}])
        os.kill(place.controllers[0].pid, signal.SIGHUP)
        until(lambda: "there is no user 'no such user'" in ctl.call("status-get")["configuration"]["failure"])
        engine["rpm"] = 2
        until(lambda: other.values("rpm")[-1:] == [2])
        place.configure(access=[{**ENGINE, "user": OTHER}])
        os.kill(place.controllers[0].pid, signal.SIGHUP)
        until(lambda: other.events[-1]["kind"] == "error")
        assert f"user {NOBODY} may not use this controller" in other.events[-1]["error"]
        newcomer = place.peer(OTHER)
        assert newcomer.do("get", "engine", "rpm") == 2
        place.configure(access=[])
        os.kill(place.controllers[0].pid, signal.SIGHUP)
        until(lambda: os.stat(place.socket).st_mode & 0o777 == 0o600)
        until(lambda: len(ctl.call("config-get")["controller"]["access"]) == 0)
        assert ctl.call("status-get")["clients"] == 1, "the own user's"


def test_after_a_restart_by_other_rules_clients_learn_it_when_they_come_back(place, serve):
    both = {"allow": ["observe", "publish"], "user": NOBODY, "names": ["engine", "gear"]}
    serve(both)
    other = place.peer(NOBODY)
    with kvoshim.Observable("engine", autostart=False) as engine:
        engine["rpm"] = 1
        other.do("observe", "engine", "rpm")
        other.do("publish", "gear")
        place.controllers[0].kill()
        place.controllers[0].wait(WAIT_S)
        place.controller("--config", str(place.configure(access=[{**both, "names": ["other"]}])))
        until(lambda: other.events[-1]["kind"] == "error")
        assert other.do("alive", "engine", "rpm") == ["closed", False]
        assert "AccessDeniedError" in refused(other, "set", "gear", "n", 1)


def test_rules_that_are_no_rules_are_refused_and_the_old_ones_stay(place, serve):
    ctl = serve(ENGINE)
    for rule, problem in [({"allow": ["read"], "user": 1}, "access"), ({"allow": ["observe"], "user": "nobody-at-all"}, "no user"),
                          ({"allow": ["observe"], "names": ["x"]}, "one of user and group")]:
        with pytest.raises(ControlError, match=problem):
            ctl.call("config-set", {"controller": {"access": [rule]}})
    assert [rule["rule"] for rule in ctl.call("config-get")["controller"]["access"]] == ["who looks at engines"]
