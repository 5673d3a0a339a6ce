"""kvoshim ctl, as a shell sees it."""

import json

import pytest


@pytest.fixture
def ctl(shared):
    def run(*words, stdin=""):
        return shared.place.kvoshim("ctl", "greeter", *words, stdin=stdin)

    return run


def test_a_command_and_its_answer(shared, ctl):
    done = ctl("greet")
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, {"greeting": "hello"}, "")
    done = ctl("greet", "--json")
    assert json.loads(done.stdout) == {"result": 0, "text": "", "arguments": {"greeting": "hello"}}
    assert json.loads(ctl("fill", "size=3").stdout) == {"text": "xxx"}
    assert json.loads(shared.place.kvoshim("ctl", shared.path, "greet").stdout) == {"greeting": "hello"}


def test_exit_codes_are_the_answers_results(ctl):
    done = ctl("gret")
    assert done.returncode == 2 and done.stderr == "there is no command 'gret'; do you mean 'greet'?\n"
    assert ctl("statistic-get", "name=none").returncode == 3
    assert ctl("config-set", '{"greeter": {}, "hash": "old"}').returncode == 4
    assert ctl("config-set", '{"greeter": {"refuse": "both ways"}}').returncode == 5
    done = ctl("fill", "size")
    assert done.returncode == 2 and "neither NAME=VALUE" in done.stderr
    done = ctl("config-set", "@/nowhere/file")
    assert done.returncode == 2 and "No such file" in done.stderr


def test_a_configuration_goes_round(shared, ctl):
    given = json.loads(ctl("config-get").stdout)
    given["greeter"]["greeting"] = "hi"
    file = shared.place.directory / "new.json"
    file.write_text("// by hand\n" + json.dumps(given))
    assert ctl("config-set", f"@{file}").returncode == 0
    assert ctl("config-test", "@-", stdin=json.dumps(given)).returncode == 4, "its hash is that before the change"
    assert json.loads(ctl("greet").stdout) == {"greeting": "hi"}


def test_by_hand(ctl):
    done = ctl(stdin='help shutdown\ngreet\nfill size=2\n\nfill {"size": 1}\nfill size\nnonsense\nstatus-get\nquit\ngreet\n')
    assert done.returncode == 0
    assert done.stdout.startswith('shutdown [type="drain" or "normal" or "now"] [exit-value=whole number]\n    Ends the daemon')
    assert done.stdout.count("hello") == 1 and '"xx"' in done.stdout and '"x"' in done.stdout
    assert "neither NAME=VALUE" in done.stderr and "no command 'nonsense'" in done.stderr
    assert '"state": "running"' in done.stdout
    assert ctl(stdin="nonsense\n").returncode == 2


def test_nobody_there(place):
    done = place.kvoshim("ctl", "greeter", "greet")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"kvoshim ctl: no daemon answers at {place.runtime}/kvoshim/greeter.ctl: No such file or directory\n"


def test_a_daemons_text_cannot_command_the_terminal(ctl):
    done = ctl("x\x1b[2J")
    assert done.returncode == 2 and "\x1b" not in done.stderr and "\\x1b[2J" in done.stderr
