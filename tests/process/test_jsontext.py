"""Configuration text: what is read, and where an error is said to be."""

import json
import os
import random

import pytest

from kvoshim.errors import ConfigurationError
from kvoshim.process import jsontext


def parse(text):
    return jsontext.parse(text, "f")


def test_comments_of_all_kinds_and_none_inside_strings():
    text = """# first
    { // second
      "a": 1, /* third
                 over two lines */ "b": "# // /* none */", "c": [/**/], # last
      "d": "\\"//" }//"""
    assert parse(text).value == {"a": 1, "b": "# // /* none */", "c": [], "d": '"//'}


@pytest.mark.parametrize(
    "text, place, problem",
    [
        ('{"a": 1,\n  "b": 2,\n  "a": 3}', "3:3", "the key 'a' stands here a second time"),
        ('{"é": [1, {"x": 1, "\\u0078": 2}]}', "1:20", "the key 'x' stands here a second time"),
        ('{\n"a" 1}', "2:5", "Expecting ':' delimiter"),
        ("[1,\n 2,]", "2:4", "Expecting value"),
        ('{"a": 1} 2', "1:10", "Extra data"),
        ("", "1:1", "Expecting value"),
        ("\n /* x", "2:2", "a comment without an end"),
        ('["abc\n"]', "1:2", "a string without an end"),
        ("[1, NaN]", "1:5", "NaN is no JSON"),
        ("[-Infinity]", "1:2", "-Infinity is no JSON"),
        ("[1,\n1e999]", "2:1", "a number is too large"),
        ("[" + "9" * 401 + "]", "1:2", "a number has more than 400 digits"),
        ("[1e999-1]", "1:7", "Expecting ',' delimiter"),
        ('["\\ud800x"]', "1:2", "a string is no Unicode"),
        ('{"\\udfff": 1}', "1:2", "a string is no Unicode"),
        ("\n" + "[" * 65 + "]" * 65, "2:65", "more than 64 levels"),
        ('{"a":' * 100_000, "1:321", "more than 64 levels"),
        ('[<?include "x"?>]', "1:2", "an include is not allowed here"),
        ("[<?php ?>]", "1:2", "no directive"),
        ("[1 / 2]", "1:4", "/ is no JSON"),
    ],
)
def test_errors_name_line_and_column(text, place, problem):
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    assert caught.value.place == f"f:{place}" and problem in caught.value.problem
    assert str(caught.value).startswith(f"f:{place}: ")


def test_what_is_at_the_limit_is_accepted():
    assert parse("[" * 64 + "]" * 64)
    assert parse("[" + "9" * 400 + "]").value == [int("9" * 400)]
    assert parse('["\\ud83d\\ude00"]').value == ["😀"]


def test_the_place_of_a_value_or_of_the_nearest_around_it():
    document = parse('{"a": {"b": [1,\n  {"c": true}]}}')
    assert document.where(("a", "b", 1, "c")) == "f:2:4"
    assert document.where(("a", "b", 0)) == "f:1:14"
    assert document.where(("a", "b", 1, "unknown", 4)) == "f:2:3"
    assert document.where(()) == "f:1:1"


def write(directory, **files):
    for name, text in files.items():
        path = directory / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return str(directory / "main.json")


def test_includes_stand_for_values_and_keep_their_places(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "inner.json").write_text('# 7\n[1, {"x":\n true}]')
    main = write(
        tmp_path,
        main='{"a": <?include "other.json"?>,\n "b": <?include "parts/list.json"?>, "c": 5}',
        other='"text"',
    )
    (tmp_path / "parts" / "list.json").write_text('[0, <?include "inner.json"?>]')
    document = jsontext.read(main)
    assert document.value == {"a": "text", "b": [0, [1, {"x": True}]], "c": 5}
    assert document.where(("b", 1, 1, "x")) == f"{tmp_path}/parts/inner.json:2:6"
    assert document.where(("b", 0)) == f"{tmp_path}/parts/list.json:1:2"
    assert document.where(("c",)) == f"{main}:2:38"


def test_errors_in_included_files(tmp_path):
    main = write(tmp_path, main='{\n "a": <?include "other.json"?>}', other='{"k": 1,\n"k": 2}')
    with pytest.raises(ConfigurationError) as caught:
        jsontext.read(main)
    assert caught.value.place == f"{tmp_path}/other.json:2:1"

    def refused(**files):
        with pytest.raises(ConfigurationError) as caught:
            jsontext.read(write(tmp_path, **files))
        return str(caught.value)

    assert "main.json:2:7: " in refused(main='{\n "a": <?include "missing.json"?>}')
    assert "includes itself" in refused(main='[<?include "other.json"?>]', other='[<?include "main.json"?>]')
    os.mkfifo(tmp_path / "fifo.json")
    assert "is not a file" in refused(main='[<?include "fifo.json"?>]')
    assert "cannot be read" in refused(main='[<?include "a\\u0000b"?>]')
    assert "levels" in refused(main="[" * 40 + '<?include "other.json"?>' + "]" * 40, other="[" * 30 + "]" * 30)
    many = ",".join(['<?include "other.json"?>'] * 300)
    assert "256 in all" in refused(main=f"[{many}]", other="1")
    for number in range(10):
        (tmp_path / f"n{number}.json").write_text(f'[<?include "n{number + 1}.json"?>]')
    assert "more than 8 files inside one another" in refused(main='[<?include "n0.json"?>]')


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "main.json"
    path.write_bytes('{"é": 1,\n "b": "'.encode() + b'\xff"}')
    with pytest.raises(ConfigurationError, match=r":2:8: this is not UTF-8"):
        jsontext.read(str(path))
    path.write_bytes(b"\xef\xbb\xbf[1]")
    assert jsontext.read(str(path)).value == [1]


def test_plain_json_means_what_the_json_module_says():
    """Seeded: random values, written by the json module, with comments sown between the lines."""
    dice = random.Random(1)

    def value(depth=0):
        kind = dice.randrange(8 if depth < 5 else 6)
        if kind == 6:
            return [value(depth + 1) for _ in range(dice.randrange(4))]
        if kind == 7:
            return {f'k{n}"\\/#': value(depth + 1) for n in range(dice.randrange(4))}
        text = "".join(dice.choices('ab"\\/#*<?\n\té😀', k=5))
        return [None, True, dice.randrange(-(10**20), 10**20), dice.random() * 1e300, text, ""][kind]

    for _ in range(300):
        expected = value()
        lines = json.dumps(expected, indent=1, ensure_ascii=dice.random() < 0.5).split("\n")
        text = "\n".join(line + dice.choice(["", " # c", "// \" c", "/* \n { */"]) for line in lines)
        assert parse(text).value == expected


def test_a_directory_is_no_file(tmp_path):
    with pytest.raises(ConfigurationError, match="is not a file"):
        jsontext.read(str(tmp_path))
