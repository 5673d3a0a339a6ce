"""CPython's own tests, run by the interpreter that runs the project, one suite for each test module."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conformance.obtain import apt_install, once
from conformance.suite import Result, Suite, Unavailable, execute

_DRIVER = Path(__file__).parent.parent / "programs" / "regrtest.py"
#: Some versions don't install the modules test_multiprocessing_*; each is one call of a function that all have. Their names
#: are not these, which the runner takes for folders.
_MULTIPROCESSING = "import test._test_multiprocessing as tests\ntests.install_tests_in_module_dict(globals(), {method!r})\n"
#: A run whose interpreter crashes or hangs goes on behind that test, so often at most.
_RESTARTS = 20


class CPython(Suite):
    """One module of CPython's test suite. one_test: seconds after which a single test is taken to hang. network: allow
    the resource "network", where that means mostly the loopback interface. skip: a test that is not run."""

    def __init__(self, module: str, accelerates: int, *, limit: float = 900, one_test: float = 120, network: bool = False,
                 skip: str = ""):
        self.name, self.module, self.file = f"cpython/{module}", module, module
        self.about = f"CPython's {module}"
        self.accelerates, self.limit, self.one_test = accelerates, limit, one_test
        self.resources = f"all,-urlfetch,-gui,-audio{'' if network else ',-network'}"
        self.flags = ("--ignore", skip) if skip else ()

    @property
    def python(self) -> str:
        return sys._base_executable  # not the virtual environment's, which some tests take for a system of its own

    def install(self) -> None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        found = subprocess.run([self.python, "-c", "import test.test_socket"], capture_output=True)
        if found.returncode and Path(self.python).resolve() == Path(f"/usr/bin/python{version}"):
            apt_install([f"libpython{version}-testsuite"])
            found = subprocess.run([self.python, "-c", "import test.test_socket"], capture_output=True)
        if found.returncode:
            raise Unavailable(f"{self.python} has no package 'test' (for Debian's own Python: libpython{version}-testsuite; "
                              "a Python built from source has it)")
        if self.module.startswith("test_multiprocessing_"):
            with once("cpython") as (folder, _):
                method = self.module.rpartition("_")[2]
                self.file = f"test_mp_{method}"
                (folder / f"{self.file}.py").write_text(_MULTIPROCESSING.format(method=method))
                self.flags = ("--testdir", folder)

    def run(self, environment, directory, only=None) -> Result:
        results = directory / "results"
        results.touch()
        result = Result()
        done: set[str] = set()
        for _ in range(_RESTARTS):
            chosen = []
            if only:
                (directory / "only").write_text("\n".join(only - done) + "\n")
                chosen += ["--matchfile", directory / "only"]
            if done:
                (directory / "done").write_text("\n".join(done) + "\n")
                chosen += ["--ignorefile", directory / "done"]
            command = [self.python, _DRIVER, results, self.one_test, "-v", "-u", self.resources,
                       *self.flags, *chosen, self.file]
            ended = execute(command, environment, directory, self.limit)
            result.text += ended.text
            started = self._read(results, result)
            if started <= done or not (broken := started - result.passed - result.failed - self.skipped):
                break
            result.failed |= broken
            result.text += f"\nthe interpreter ended (status {ended.status}) in {', '.join(sorted(broken))}\n"
            done = started
        return result

    def _read(self, results: Path, result: Result) -> set[str]:
        started, self.skipped = set(), set()
        for line in results.read_text().splitlines():
            what, _, test = line.partition(" ")
            {"start": started, "skipped": self.skipped, "passed": result.passed, "failed": result.failed}[what].add(test)
        result.passed -= result.failed
        return started


SUITES = [
    # Its Unix clients bind names of their own, and such ones are never accelerated. The skipped test waits for ever where the
    # kernel has AF_VSOCK, but no loopback for it.
    CPython("test_socket", 0, skip="test.test_socket.ThreadedVSOCKSocketStreamTest.testStream"),
    CPython("test_socketserver", 1, network=True),
    CPython("test_asyncio", 1),
    CPython("test_selectors", 0),
    CPython("test_select", 0),
    CPython("test_poll", 0),
    CPython("test_epoll", 0),
    CPython("test_multiprocessing_fork", 1),
    CPython("test_multiprocessing_spawn", 1),
    CPython("test_multiprocessing_forkserver", 1),
    CPython("test_subprocess", 0),
    CPython("test_os", 0),
]
