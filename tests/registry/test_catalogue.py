"""Names, their owners and those who wait: the rules, as plain data."""

import random

import pytest

from kvoshim.errors import InvalidEntryError, LimitError, NameInUseError, UnknownNameError
from kvoshim.registry.catalogue import Catalogue, Former, Who
from kvoshim.registry.entry import Offer, Pattern, check_offer

WHO = Who(10, 99, 1000, "program")
BASE = 1000


@pytest.fixture
def catalogue():
    return Catalogue(BASE, "here", "user")


def add(catalogue, name="engine", holder="a", **flags):
    return catalogue.register(holder, WHO, Offer(name, **flags), 1.0)[-1].entry


def owner(catalogue, name="engine"):
    owners = [entry for entry in catalogue.line(name) if entry.owner]
    assert len(owners) <= 1
    return owners[0] if owners else None


def test_an_entry_has_what_was_offered_and_who_offers(catalogue):
    (outcome,) = catalogue.register("a", WHO, Offer("engine", "/run/e", "1.2.3-rc.1", {"zone": "x"}), 5.0)
    entry = outcome.entry
    assert (entry.name, entry.serial, entry.host, entry.pid, entry.start, entry.uid) == ("engine", 1, "here", 10, 99, 1000)
    assert (entry.address, entry.version, entry.metadata, entry.since) == ("/run/e", "1.2.3-rc.1", {"zone": "x"}, 5.0)
    assert entry.program == "program" and entry.reach == "user" and not entry.suspect
    assert outcome.owned and entry.owner and entry.token > BASE


def test_equal_names_get_serial_numbers_and_the_smallest_free_one_is_given_again(catalogue):
    entries = [add(catalogue) for _ in range(3)]
    assert [entry.serial for entry in entries] == [1, 2, 3]
    catalogue.deregister(entries[1].id)
    again = add(catalogue)
    assert again.serial == 2 and again.id not in {entry.id for entry in entries}
    assert add(catalogue, "other").serial == 1


def test_the_first_owns_the_name_and_the_others_wait(catalogue):
    first, second, third = (add(catalogue, holder=holder) for holder in "abc")
    assert (first.owner, second.owner, third.owner) == (True, False, False)
    outcomes = catalogue.leave("a")
    assert [(one.entry.id, one.gone, one.owned) for one in outcomes] == [(first.id, True, False), (second.id, False, True)]
    assert owner(catalogue).id == second.id and owner(catalogue).token > first.token
    catalogue.deregister(third.id)
    assert owner(catalogue).id == second.id


def test_who_does_not_want_to_wait_is_refused(catalogue):
    add(catalogue)
    with pytest.raises(NameInUseError, match="'engine' is owned by PID 10"):
        add(catalogue, queue=False)
    assert len(catalogue) == 1
    assert add(catalogue, "free", queue=False).owner


def test_an_owner_that_allows_it_is_replaced_and_stands_second(catalogue):
    first = add(catalogue, holder="a", allow_replacement=True)
    waiting = add(catalogue, holder="b")
    lost, won = catalogue.register("c", WHO, Offer("engine", replace=True), 2.0)
    assert lost.entry.id == first.id and lost.lost and not lost.gone and not lost.entry.owner and lost.holder == "a"
    assert won.owned and won.entry.token > first.token
    assert [entry.id for entry in catalogue.line("engine")] == [won.entry.id, first.id, waiting.id]
    catalogue.leave("c")
    assert owner(catalogue).id == first.id


def test_an_owner_that_does_not_wait_goes_when_it_is_replaced(catalogue):
    first = add(catalogue, holder="a", allow_replacement=True, queue=False)
    lost, won = catalogue.register("b", WHO, Offer("engine", replace=True), 2.0)
    assert lost.gone and lost.lost and lost.entry.id == first.id
    assert [entry.id for entry in catalogue.line("engine")] == [won.entry.id]
    assert catalogue.held("a") == []


def test_an_owner_that_does_not_allow_it_stays(catalogue):
    first = add(catalogue)
    second = add(catalogue, replace=True)
    assert owner(catalogue).id == first.id and not second.owner
    with pytest.raises(NameInUseError):
        add(catalogue, replace=True, queue=False)


def test_asking_anew_changes_flags_but_not_the_place(catalogue):
    first, second, third = (add(catalogue, holder=holder) for holder in "abc")
    (changed,) = catalogue.update(third.id, Offer("engine", "/new", "2.0.0", replace=True))
    assert changed.entry.address == "/new" and not changed.entry.owner
    assert [entry.id for entry in catalogue.line("engine")] == [first.id, second.id, third.id]
    catalogue.update(first.id, Offer("engine", allow_replacement=True))
    lost, won = catalogue.update(third.id, Offer("engine", replace=True))
    assert (lost.entry.id, won.entry.id) == (first.id, third.id)
    assert [entry.id for entry in catalogue.line("engine")] == [third.id, first.id, second.id]


def test_a_name_cannot_be_changed(catalogue):
    entry = add(catalogue)
    assert catalogue.update(entry.id, Offer("other", "/x"))[-1].entry.name == "engine"


def test_a_stopped_process_is_marked_and_keeps_its_names(catalogue):
    entry, other = add(catalogue, holder="a"), add(catalogue, "other", holder="b")
    assert [one.entry.suspect for one in catalogue.suspect("a", True)] == [True]
    assert catalogue.suspect("a", True) == []
    assert owner(catalogue).id == entry.id and not catalogue.entry(other.id).suspect
    assert [one.entry.suspect for one in catalogue.suspect("a", False)] == [False]


def test_what_is_not_there_cannot_go(catalogue):
    with pytest.raises(UnknownNameError):
        catalogue.deregister(7)
    assert catalogue.leave("nobody") == []


def test_the_catalogue_has_a_bound():
    catalogue = Catalogue(BASE, "here", "user", most=2)
    add(catalogue), add(catalogue)
    with pytest.raises(LimitError, match="2 entries"):
        add(catalogue)


# --- after the registry's death ---------------------------------------------


def heirs(catalogue, base=5000):
    """A catalogue that takes the place of another one, and a function that lets an entry of that one come back."""
    new = Catalogue(base, "here", "user", settled=False)

    def back(entry, holder="x", **flags):
        former = Former(entry.id, entry.serial, entry.token, entry.since)
        return new.restore(holder, WHO, Offer(entry.name, entry.address, **flags), former)

    return new, back


def test_who_comes_back_is_what_it_was_in_whatever_order(catalogue):
    before = [add(catalogue, holder=holder) for holder in "abcd"]
    for seed in range(24):
        new, back = heirs(catalogue)
        entries = list(before)
        random.Random(seed).shuffle(entries)
        for entry in entries:
            back(entry)
        new.settle()
        assert new.line("engine") == before


def test_the_dead_ones_name_goes_to_the_next_in_line_when_all_are_back(catalogue):
    first, second, third = (add(catalogue, holder=holder) for holder in "abc")
    new, back = heirs(catalogue)
    back(third)
    back(second)
    assert owner(new) is None
    (outcome,) = new.settle()
    assert outcome.entry.id == second.id and outcome.owned and outcome.entry.token > 5000 > first.token


def test_nobody_new_gets_a_name_before_all_are_back(catalogue):
    first = add(catalogue)
    new, back = heirs(catalogue)
    stranger = add(new, holder="new")
    assert not stranger.owner
    with pytest.raises(NameInUseError):
        add(new, queue=False)
    back(first)
    new.settle()
    assert owner(new).id == first.id and owner(new).token == first.token


def test_who_comes_back_too_late_has_lost_its_name(catalogue):
    first = add(catalogue)
    new, back = heirs(catalogue)
    new.settle()
    stranger = add(new)
    (outcome,) = back(first)
    assert outcome.lost and not outcome.entry.owner and owner(new).id == stranger.id
    new.deregister(stranger.id)
    assert owner(new).id == first.id and owner(new).token > stranger.token


def test_of_two_who_say_that_they_owned_a_name_the_later_owner_does(catalogue):
    first = add(catalogue, holder="a", allow_replacement=True)
    second = add(catalogue, holder="b", replace=True)
    for order in ((first, second), (second, first)):
        new, back = heirs(catalogue)
        outcomes = [outcome for entry in order for outcome in back(entry)]
        assert [one.entry.id for one in outcomes if one.lost] == [first.id]
        new.settle()
        assert owner(new).id == second.id and owner(new).token == second.token


def test_a_number_from_the_future_is_not_believed(catalogue):
    new = Catalogue(5000, "here", "user", settled=False)
    (outcome,) = new.restore("x", WHO, Offer("engine"), Former(9000, 1, 9000, 1.0))
    assert outcome.entry.id == 5001 and outcome.entry.token == 0


# --- everything at random ---------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_a_settled_name_has_one_owner_and_tokens_rise(seed):
    chance = random.Random(seed)
    catalogue = Catalogue(BASE, "here", "user")
    highest = {}
    for _ in range(400):
        kind = chance.random()
        entries = catalogue.entries()
        try:
            if kind < 0.5 or not entries:
                flags = {flag: chance.random() < 0.5 for flag in ("allow_replacement", "replace", "queue")}
                outcomes = catalogue.register(chance.choice("abcdef"), WHO, Offer(chance.choice("xyz"), **flags), 1.0)
            elif kind < 0.7:
                outcomes = catalogue.deregister(chance.choice(entries).id)
            elif kind < 0.8:
                outcomes = catalogue.leave(chance.choice("abcdef"))
            else:
                offer = Offer("", replace=chance.random() < 0.5, allow_replacement=chance.random() < 0.5)
                outcomes = catalogue.update(chance.choice(entries).id, offer)
        except NameInUseError:
            continue
        for outcome in outcomes:
            if outcome.owned:
                assert outcome.entry.token > highest.get(outcome.entry.name, 0)
                highest[outcome.entry.name] = outcome.entry.token
        for name in "xyz":
            line = catalogue.line(name)
            assert [entry.owner for entry in line] == [True] * bool(line) + [False] * (len(line) - 1)
            assert len({entry.serial for entry in line}) == len(line)
        assert len(catalogue) == sum(len(catalogue.line(name)) for name in "xyz")


# --- what may be registered ---------------------------------------------


@pytest.mark.parametrize("name", ["a", "with space", "a/b/c", "ünïcode", "x" * 255, "..", "#2"])
def test_names_that_can_be_used(name):
    check_offer(Offer(name))
    assert Pattern(name).matches(name)


@pytest.mark.parametrize("name", ["", "a\nb", "\0", "x" * 256, "x" * 10000, "a*", "a?", "[a]", "\ud800", "a\u2028b", 7, None, b"x"])
def test_names_that_cannot_be_used(name):
    with pytest.raises(InvalidEntryError):
        check_offer(Offer(name))


@pytest.mark.parametrize("field", [
    {"address": "x" * 1025}, {"address": "a\n"}, {"address": 7}, {"version": "1"}, {"version": "1.2"}, {"version": "01.2.3"},
    {"version": "1.2.3-"}, {"version": "v1.2.3"}, {"version": "1.2.3\n"}, {"metadata": []}, {"metadata": {"": 1}},
    {"metadata": {1: 1}}, {"metadata": {"a": []}}, {"metadata": {"a": "\ud800"}}, {"metadata": {"a": 1 << 70}},
    {"metadata": {"a": "x" * 5000}}, {"metadata": {str(n): n for n in range(2000)}},
])  # fmt: skip
def test_offers_that_cannot_be_registered(field):
    with pytest.raises(InvalidEntryError):
        check_offer(Offer("engine", **field))


@pytest.mark.parametrize("version", ["0.0.0", "1.2.3", "1.0.0-alpha.1", "1.0.0-0a.x-y+001.sha", "10.20.30+b"])
def test_versions_that_can_be_used(version):
    check_offer(Offer("engine", version=version))


def test_patterns():
    assert Pattern("*").matches("anything/at all")
    assert Pattern("eng*").matches("engine") and not Pattern("eng*").matches("an engine")
    assert Pattern("e?gine[12]").matches("engine1") and not Pattern("e?gine[12]").matches("engine3")
    assert Pattern("engine").exact and not Pattern("engine").matches("engine2")
    assert not Pattern("*a" * 120 + "b").matches("a" * 254)  # answered at once: no pattern takes exponential time
    for bad in ("", "a\n", 7, "x" * 256):
        with pytest.raises(InvalidEntryError):
            Pattern(bad)
