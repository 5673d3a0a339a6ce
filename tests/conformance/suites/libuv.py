"""The tests of libuv and of uvloop, which brings libuv's sources along in its own."""

from __future__ import annotations

import os
import re
import shutil

from conformance.obtain import build, debian, once, python_with, sdist
from conformance.suite import Result, Suite, execute, unittest_results

_UVLOOP = "0.23.0"
_OF_UVLOOP = ("test_unix", "test_pipes", "test_sockets", "test_tcp", "test_process", "test_process_spawning", "test_base",
              "test_context", "test_signals", "test_regr1", "test_runner", "test_dealloc", "test_executors")


class UvLoop(Suite):
    """uvloop's tests, without those of name look-up, UDP, file watching, types and style; the wheel is PyPI's."""

    name = "uvloop"
    about = f"uvloop {_UVLOOP}'s own tests"
    accelerates = 1

    def install(self) -> None:
        self.source = sdist(f"uvloop=={_UVLOOP}", "uvloop")
        self.python = python_with("uvloop-venv", f"uvloop=={_UVLOOP}", "psutil", "pyOpenSSL", "aiohttp", "setuptools")

    def run(self, environment, directory, only=None) -> Result:
        # A copy, since beside its sources "import uvloop" would find those instead of the wheel.
        shutil.copytree(self.source / "tests", directory / "tests")
        result = Result()
        for module in _OF_UVLOOP:
            names = sorted(n for n in only if n.split(".")[1] == module) if only else [f"tests.{module}"]
            if not names:
                continue
            ended = execute([self.python, "-X", "faulthandler", "-m", "unittest", "-v", *names], environment, directory, 400)
            result.text += ended.text
            passed, failed = unittest_results(ended.text)
            result.passed |= passed
            result.failed |= failed
        return result


class LibUv(Suite):
    """libuv's test program, which starts each of its tests as a process of its own."""

    name = "libuv"
    about = f"libuv's own tests, in the version within uvloop {_UVLOOP}"
    accelerates = 1
    limit = 1200

    def install(self) -> None:
        debian(make="make", cc="gcc")
        source = sdist(f"uvloop=={_UVLOOP}", "uvloop") / "vendor" / "libuv"
        with once("libuv") as (folder, fresh):
            if fresh:
                shutil.copytree(source, folder / "source")
                # In this order, or make would try to generate them anew, with tools that are not needed otherwise.
                for name in ("configure.ac", "aclocal.m4", "configure", "Makefile.am", "Makefile.in"):
                    os.utime(folder / "source" / name)
                build(folder / "source", "libuv", "./configure --disable-static --quiet",
                      f"make -j{os.cpu_count()} -s test/run-tests")
            self.folder = folder / "source"
            self.program = self.folder / "test" / ".libs" / "run-tests"

    def run(self, environment, directory, only=None) -> Result:
        environment = environment | {"UV_RUN_AS_ROOT": "1", "LD_LIBRARY_PATH": str(self.folder / ".libs")}
        result = Result()
        for test in sorted(only) if only else [None]:
            # Each test of the whole run has a limit of some seconds from libuv; started alone, it is ours.
            ended = execute([self.program, *([test] if test else [])], environment, directory, 60 if test else self.limit,
                            cwd=self.folder)
            result.text += ended.text
            if test:
                (result.failed if ended.status else result.passed).add(test)
            for how, name, skipped in re.findall(r"^(ok|not ok) \d+ - (\w+)(.*# SKIP)?", ended.text, re.M):
                if not skipped:
                    (result.passed if how == "ok" else result.failed).add(name)
        return result


SUITES = [UvLoop(), LibUv()]
