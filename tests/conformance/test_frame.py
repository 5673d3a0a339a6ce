"""The frame of `scripts/conformance` on suites of our own: it sees a difference, unsteady tests, and idle libraries."""

import sys

import pytest
from conformance.__main__ import chosen, details, registry
from conformance.compare import compare
from conformance.suite import Result, Suite, end_descendants, execute

_PROGRAM = """
import os, socket, sys, threading
path = os.path.join(os.environ["TMPDIR"], "s")
server = socket.socket(socket.AF_UNIX)
server.bind(path); server.listen()
client = socket.socket(socket.AF_UNIX)
client.connect(path)
peer, _ = server.accept()
for _ in range(20):
    client.sendall(b"x"); assert peer.recv(1) == b"x"
    peer.sendall(b"y"); assert client.recv(1) == b"y"
print("echo passed")
print("preload", "failed" if "kvoshim" in os.environ.get("LD_PRELOAD", "") else "passed")
"""


class Toy(Suite):
    """Its tests: an echo, one that fails because of the library, and, if asked for, one that fails in each second run."""

    name = "toy"

    def __init__(self, program=_PROGRAM, accelerates=1, fickle=False):
        self.program, self.accelerates, self.fickle, self.runs = program, accelerates, fickle, 0

    def run(self, environment, directory, only=None):
        done = execute([sys.executable, "-c", self.program], environment, directory, 60)
        result = Result(text=done.text)
        for line in done.text.splitlines():
            name, _, how = line.partition(" ")
            (result.passed if how == "passed" else result.failed).add(name)
        if self.fickle:
            # Runs are plain, shimmed, plain, ...: this one passes in the first and second of each four.
            (result.failed if self.runs & 2 else result.passed).add("fickle")
        self.runs += 1
        return result


def test_a_lost_test_is_a_difference_and_an_unsteady_one_is_not():
    suite = Toy(fickle=True)
    suite.runs = 1  # so that "fickle" passes plain at first, and fails shimmed
    verdict = compare(suite, repeats=3)
    assert verdict.plain.passed == {"echo", "preload", "fickle"} and verdict.accelerated == 1
    assert verdict.lost == {"preload", "fickle"}
    assert verdict.difference == {"preload"} and verdict.unsteady == {"fickle"}
    assert verdict.repeated["preload"] == (3, 0)
    assert verdict.problems and any("preload; repeated 3 times: 3 passed plain, 0 shimmed" in x for x in details(verdict))


def test_a_library_that_accelerates_nothing_is_a_problem():
    verdict = compare(Toy("print('echo passed')", accelerates=1), repeats=0)
    assert any("accelerated" in problem for problem in verdict.problems)
    assert not compare(Toy("print('echo passed')", accelerates=0), repeats=0).problems


def test_a_suite_without_any_passed_test_is_a_problem():
    assert compare(Toy("raise SystemExit(1)", accelerates=0), repeats=0).problems


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path):
    done = execute(["sh", "-c", "setsid sleep 1000 & echo started; sleep 1000"], {"PATH": "/usr/bin:/bin"}, tmp_path, 1)
    assert done.status is None and done.text.startswith("started") and "killed after 1 s" in done.text
    end_descendants()


def test_every_module_of_suites_is_registered_and_can_be_chosen():
    suites = registry()
    assert suites and all(suite.name == name and suite.about for name, suite in suites.items())
    family = next(iter(suites)).split("/")[0]
    assert {s.name for s in chosen(suites, [family])} == {n for n in suites if n.split("/")[0] == family}
    with pytest.raises(SystemExit):
        chosen(suites, ["no such suite"])


def test_a_test_that_fails_on_kernel_sockets_is_a_problem_of_a_suite_that_must_be_complete():
    suite = Toy("print('echo passed'); print('scene failed')", accelerates=0)
    assert not compare(suite, repeats=0).problems
    suite.complete = True
    assert any("scene" in problem for problem in compare(suite, repeats=0).problems)
