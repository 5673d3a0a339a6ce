"""Access rules: what a daemon with its own protocol asks before it does what it is asked for."""

import os
from typing import Literal

import pytest

from kvoshim.errors import AccessDeniedError, ConfigurationError
from kvoshim.process import Caller, rules

ALICE, BOB = 54321, 54322


class Rule(rules.Rule, frozen=True, kw_only=True):
    allow: tuple[Literal["read", "change"], ...] = ()
    deny: tuple[Literal["read", "change"], ...] = ()


class Policy(rules.Policy):
    daemon = "greeter"


def caller(uid, *groups):
    return Caller(1, uid, frozenset(groups))


def test_the_first_rule_about_client_action_and_name_decides():
    policy = Policy((
        Rule(deny=("change",), user=ALICE, names=("secret*", "hidden"), rule="not for Alice"),
        Rule(allow=("change",), group=7, names=("team-[ab]",)),
        Rule(allow=("read", "change"), user="*"),
    ))  # fmt: skip
    with pytest.raises(AccessDeniedError, match="may not change 'secret-x': rule 1 of the access rules, 'not for Alice'"):
        policy.check(caller(ALICE), "change", "secret-x")
    assert not policy.allows(caller(ALICE), "change", "hidden") and policy.allows(caller(ALICE), "read", "hidden")
    assert policy.allows(caller(BOB, 7), "change", "team-a") and policy.allows(caller(BOB), "change", "other")


def test_behind_the_rules_only_the_daemons_own_user_and_root_are_trusted():
    nobody, readers = Policy(), Policy((Rule(allow=("read",), user=BOB),))
    for uid in {0, os.geteuid()}:
        assert nobody.allows(caller(uid), "change", "x") and nobody.admits(caller(uid))
    with pytest.raises(AccessDeniedError, match="may not use this greeter: no rule admits it"):
        nobody.check_client(caller(BOB))
    readers.check_client(caller(BOB))
    assert readers.admits(caller(BOB), "read") and not readers.admits(caller(BOB), "change")
    with pytest.raises(AccessDeniedError, match="no rule admits it"):
        readers.check(caller(BOB), "change", "x")
    assert readers.for_others and not nobody.for_others


@pytest.mark.parametrize("fields", [
    {"allow": ("read",)}, {"allow": ("read",), "deny": ("read",), "user": 1}, {"user": 1},
    {"allow": ("read",), "user": 1, "group": 1}, {"allow": ("read",), "user": 1, "names": ("",)},
])  # fmt: skip
def test_rules_that_cannot_be(fields):
    with pytest.raises(ValueError):
        Rule(**fields)


def test_a_group_that_there_is_not():
    with pytest.raises(ConfigurationError, match="no group 'nobody-at-all'"):
        Policy((Rule(allow=("read",), group="nobody-at-all"),))
