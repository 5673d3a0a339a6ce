"""What is masked, and what a daemon cannot forget to declare."""

from typing import Any

import pytest

from kvoshim.process import model
from kvoshim.process.redaction import MASK, Cleaner, Redactor, redact_access_string, uncovered


def test_only_declared_places_are_masked():
    redactor = Redactor(["", "database", "peers/[]/tls", "plug-ins/[]/parameters/*"])
    before = {
        "Top-Secret": [1, 2],
        "other": {"password": "kept: not declared"},
        "database": {"password": "x", "host": "h", "options": {"secret": "kept"}},
        "peers": [{"tls": {"secret-key": 5}}, {"password": "kept"}],
        "plug-ins": [{"parameters": {"a": [{"my-password": {"deep": 1}}], "b": 2}, "secret": "kept"}],
    }
    after = redactor.redact(before)
    assert after == {
        "Top-Secret": MASK,
        "other": {"password": "kept: not declared"},
        "database": {"password": MASK, "host": "h", "options": {"secret": "kept"}},
        "peers": [{"tls": {"secret-key": MASK}}, {"password": "kept"}],
        "plug-ins": [{"parameters": {"a": [{"my-password": MASK}], "b": 2}, "secret": "kept"}],
    }
    assert redactor.secrets(before) == [[1, 2], "x", 5, {"deep": 1}]
    assert before["database"]["password"] == "x", "the configuration itself stays what it is"


@pytest.mark.parametrize("value", [{"database": 5}, {"peers": {"a": 1}}, {"peers": [1, None]}, [], None, {}])
def test_what_has_another_shape_passes_through(value):
    assert Redactor(["database", "peers/[]"]).redact(value) == value


def test_a_list_needs_its_brackets_and_a_star_covers_lists():
    value = {"l": [{"secret": 1}]}
    assert Redactor(["l"]).redact(value) == value
    assert Redactor(["l/[]"]).redact(value) == Redactor(["l/*"]).redact(value) == Redactor(["*"]).redact(value) == {
        "l": [{"secret": MASK}]
    }


def test_overlapping_paths_do_not_hide_each_other():
    value = {"a": {"password": 1, "b": {"secret": 2}}}
    masked = {"a": {"password": MASK, "b": {"secret": MASK}}}
    for paths in (["a", "a/b"], ["a/b", "a"], ["a/*", "a"], ["a", "a/*"], ["a/b", "a/*"]):
        assert Redactor(paths).redact(value) == masked, paths


class Tls(model.Section, frozen=True, kw_only=True):
    secret_key: str = ""
    next: "Tls | None" = None


class Settings(model.Section, frozen=True, kw_only=True):
    admin_password: str = ""
    tls: Tls | None = None
    peers: list[Tls] = []
    free: dict[str, Any] = {}
    host: str = ""


def test_no_place_of_a_model_is_forgotten():
    missing = ["peers/[]/next/secret-key", "peers/[]/secret-key", "tls/next/secret-key", "tls/secret-key"]
    assert uncovered(Settings, []) == ["admin-password", "free/*", *missing]
    assert uncovered(Settings, ["", "free/*", "peers/*"]) == missing[2:]
    assert uncovered(Settings, ["", "free/*", "peers/*", "tls"]) == missing[2:3]
    assert uncovered(Settings, ["", "free/*", "peers/*", "tls/*"]) == []


@pytest.mark.parametrize(
    "text, expected",
    [
        ("type=mysql user=u password=s3cret host=h", f"type=mysql user=u password={MASK} host=h"),
        (r"host=h password='a b\' c' user=u", f"host=h password={MASK} user=u"),
        ("postgresql://u:p%40:x@h/db?sslpassword=abc&x=1", f"postgresql://u:{MASK}@h/db?sslpassword={MASK}&x=1"),
        ("redis://:pw@h/0, then nats://tok@h:4222", f"redis://:{MASK}@h/0, then nats://{MASK}@h:4222"),
        ('{"password": "a b", "n": 1}', f'{{"password": {MASK}, "n": 1}}'),
        ("http://host/path and a@b.c", "http://host/path and a@b.c"),
    ],
)
def test_access_strings(text, expected):
    assert redact_access_string(text) == expected


def test_the_secrets_in_force_are_masked_wherever_they_turn_up():
    clean = Cleaner(["hunter2!", {"inner": ["line\nbreak"]}, 123456, "ab", True, "hunter2!longer"])
    text = clean("login with hunter2! or hunter2!longer, 'line\\nbreak', 123456: ab True")
    assert text == f"login with {MASK} or {MASK}, '{MASK}', {MASK}: ab True"
    assert Cleaner()("nothing to hide") == "nothing to hide"
