"""From a document to a daemon's settings."""

import msgspec
import pytest

from kvoshim.errors import ConfigurationError
from kvoshim.process import jsontext, model


class Database(model.Section, frozen=True, kw_only=True):
    host: str
    port: int = 5432


class Settings(model.Configuration, frozen=True, kw_only=True):
    database: Database | None = None
    peers: list[Database] = []
    by_name: dict[str, Database] = {}


def convert(text):
    return model.convert(jsontext.parse(text, "f"), "unit", Settings)


def test_a_section_among_others():
    settings = convert('{"other": 1, "unit": {"peers": [{"host": "a", "port": 1}], "user-context": {"x": [1]}}, "more": []}')
    assert settings.peers == [Database(host="a", port=1)] and settings.user_context == {"x": [1]}
    assert settings.statistic_samples == 20 and settings.control_socket.clients == 64


@pytest.mark.parametrize(
    "text, place, problem",
    [
        ('{"unit": {"peers": [{"host": "a"},\n {"hos": 1}]}}', "2:3", "peers/1/hos: Object contains unknown field `hos`"),
        ('{"unit": {"database": {\n"host": 1}}}', "2:1", "database/host: Expected `str`, got `int`"),
        ('{"unit": {\n"database": {}}}', "2:1", "database: Object missing required field `host`"),
        ('{"unit": {\n"by-name": {"a": {"host": 1}}}}', "2:1", "by-name: Expected `str`, got `int`"),
        ('{"unit": {"statistic-samples": 0}}', "1:2", "statistic-samples is a number from 1 to 1000"),
        ('{"unit": {"control-socket": {"access": [{"role": "read"}]}}}', "1:41", "one of user and group"),
        ('{"unit": {"control-socket":\n {"clients": 1}}}', "1:11", "clients is a number"),
        ('{"unit": {"logging": {\n"level": "loud"}}}', "2:1", "logging/level: Invalid enum value 'loud'"),
        ('{"Unit": {}}', "1:1", "there is no section 'unit'"),
        ("[]", "1:1", "a configuration is an object"),
        ('{"unit":\n 5}', "1:2", "the section 'unit' is no object"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(text, place, problem):
    with pytest.raises(ConfigurationError) as caught:
        convert(text)
    assert caught.value.place == f"f:{place}" and problem in caught.value.problem


def test_equal_settings_have_equal_hashes():
    one = convert('{"unit": {"peers": [{"host": "a"}], "database": null}}')
    two = convert('{"x": 1, "unit": {\n "peers": [{"port": 5432, "host": "a"}]}} # the same')
    other = convert('{"unit": {"peers": [{"host": "b"}]}}')
    hashes = [model.hash_of(model.plain(settings)) for settings in (one, two, other)]
    assert hashes[0] == hashes[1] != hashes[2]
    again = model.convert(jsontext.Document("d", {"unit": model.plain(one)}), "unit", Settings)
    assert msgspec.structs.asdict(again) == msgspec.structs.asdict(one)
