"""What a program decides before it uses the registry, and what a scope may be."""

import pytest
from seat_harness import HOLDER, USER, said_pid

from kvoshim.errors import RegistryScopeError, RegistryUnavailableError, TooLateError
from kvoshim.registry import seat


def test_decided_before_the_first_use(stage):
    """(m) policy set before the communication layer is used; afterwards it is too late."""
    seat.configure(start=HOLDER, timeout=25)
    seat.configure(scope=USER)
    contact = seat.connect()
    said_pid(contact)
    contact.sock.close()
    with pytest.raises(TooLateError):
        seat.configure(start=False)


def test_no_registry_is_started_where_the_program_says_so(stage):
    """(m) like: only one that is there."""
    seat.configure(start=False)
    with pytest.raises(RegistryUnavailableError):
        seat.connect()
    holder = stage.holder()
    assert said_pid(stage.connect(start=None)) == holder.pid


def test_code_goes_before_the_environment(stage, monkeypatch):
    monkeypatch.setenv("KVOSHIM_REGISTRY", "host")
    assert seat.choose().kind == "host"
    seat.configure(scope="user")
    assert seat.choose() == USER


def test_a_useless_variable_means_the_normal_start(stage, monkeypatch):
    for text in ("private", "private:", "private:relative", "user:/x", "usr", ":", "privat\x01", "semi-private:" + "x" * 5000):
        monkeypatch.setenv("KVOSHIM_REGISTRY", text)
        assert seat.choose() == USER
        with pytest.raises(RegistryScopeError):
            seat.Scope.parse(text)
    with pytest.raises(RegistryScopeError):
        seat.Scope.parse("private:/a\0b")


@pytest.mark.parametrize("text", ["user", "host", "private:/run/x", "semi-private:/run/with:colon"])
def test_a_scope_as_text(text):
    scope = seat.Scope.parse(text)
    assert scope.text == text and seat.Scope.parse(scope.text) == scope
    assert scope.private == ("private" in text) and scope.semi == text.startswith("semi") and scope.public == (text == "host")
