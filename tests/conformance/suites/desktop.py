"""D-Bus and X: the tests of D-Bus, GLib, Python's D-Bus clients and an XCB client, and scenes with real programs."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

from conformance.obtain import apt_install, debian, python_with, sdist
from conformance.scenes import dbus, xserver
from conformance.suite import Result, Suite, Unavailable, execute
from conformance.suites.servers import Scene

_TAP = re.compile(r"^(ok|not ok) \d+ (?:- )?([^#\n]+?)\s*(?:#\s*(SKIP.*|TODO.*))?$", re.M)

_GLIB = "/usr/libexec/installed-tests/glib", "/usr/share/installed-tests/glib"


class Tap(Suite):
    """Test programs that a Debian package installs, each of which prints a line of the TAP protocol for each test.
    folder: where they lie. listed: where the package has its list of tests, a file NAME.test for each. wanted: globs of
    their names."""

    def __init__(self, name: str, about: str, package: str, folder: str, listed: str, accelerates: int, wanted: tuple[str, ...]):
        self.name, self.about, self.package, self.folder, self.listed = name, about, package, Path(folder), Path(listed)
        self.accelerates, self.wanted, self.limit = accelerates, wanted, 120

    def install(self) -> None:
        if not self.folder.is_dir():
            apt_install([self.package])
        if not self.folder.is_dir():
            raise Unavailable(f"{self.package} is installed, but has no {self.folder}")

    def programs(self) -> list[Path]:
        found = {self.folder / path.stem for glob in self.wanted for path in self.listed.glob(f"{glob}.test")}
        return sorted(path for path in found if path.is_file() and os.access(path, os.X_OK))

    def run(self, environment, directory, only=None) -> Result:
        result = Result()
        for path in self.programs():
            if only and not any(name.startswith(f"{path.name}: ") for name in only):
                continue
            # Its own D-Bus configuration and no session bus: what it needs, it starts.
            given = {k: v for k, v in environment.items() if not k.startswith("DBUS_")} | {
                "HOME": str(directory), "XDG_RUNTIME_DIR": str(directory)}
            ended = execute([path, "--tap"], given, directory, self.limit)
            result.text += f"== {path.name} ended with {ended.status}\n{ended.text}\n"
            for how, test, remark in _TAP.findall(ended.text):
                # A test of a race that did not come about has run to its end all the same.
                if not remark.startswith("SKIP") or "Failed to reproduce race" in remark:
                    (result.passed if how == "ok" else result.failed).add(f"{path.name}: {test}")
            # 77: there is something that it cannot do here.
            (result.passed if ended.status in (0, 77) else result.failed).add(f"{path.name}: ends with {ended.status}")
        return result


class PyTest(Suite):
    """The tests of a PyPI package, from its source distribution, run by pytest with the package installed beside it.
    folder: where they lie in the sources. around: words of a command that pytest is run by. without: modules that need
    files which the source distribution lacks."""

    def __init__(self, requirement: str, folder: str, accelerates: int, *, extras: tuple[str, ...] = (),
                 around: tuple[str, ...] = (), programs: dict[str, str], without: tuple[str, ...] = ()):
        self.requirement, self.name = requirement, requirement.partition("==")[0]
        self.about = f"{requirement.replace('==', ' ')}'s own tests"
        self.folder, self.accelerates, self.extras, self.around = folder, accelerates, extras, around
        self.without, self.debian_programs = without, programs

    def install(self) -> None:
        debian(**self.debian_programs)
        self.source = sdist(self.requirement, f"{self.name}-source")
        self.python = python_with(f"{self.name}-venv", self.requirement, *self.extras)

    def run(self, environment, directory, only=None) -> Result:
        # A copy without the package itself, so that the installed one is tested.
        tests = directory / "tests"
        shutil.copytree(self.source / self.folder, tests / Path(self.folder).name)
        report = directory / "report.xml"
        words = [f"--ignore={tests / Path(self.folder).name / module}" for module in self.without]
        ended = execute([*self.around, self.python, "-m", "pytest", "-v", "-p", "no:cacheprovider", f"--junitxml={report}",
                         *words, tests], environment | {"HOME": str(directory)}, directory, self.limit, cwd=tests)
        result = Result(text=ended.text)
        for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
            name = f"{case.get('classname')}.{case.get('name')}"
            if case.find("failure") is not None or case.find("error") is not None:
                result.failed.add(name)
            elif case.find("skipped") is None:
                result.passed.add(name)
        return result


class Desktop(Scene):
    family = "desktop"


SUITES = [
    Tap("dbus/own-tests", "D-Bus's own tests: libdbus and dbus-daemon", "dbus-tests", "/usr/lib/dbus-1.0/installed-tests/dbus",
        "/usr/share/installed-tests/dbus", 50, ("test-*",)),
    Tap("glib/gdbus", "GLib's own tests of its D-Bus client and server", "libglib2.0-tests", *_GLIB, 50,
        ("gdbus-*", "actions", "gapplication", "dbus-appinfo", "debugcontroller")),
    Tap("glib/sockets", "GLib's own tests of sockets, descriptors and its main loop", "libglib2.0-tests", *_GLIB, 0,
        ("socket*", "unix*", "gsocketclient-slow", "credentials", "pollable", "mainloop", "gsubprocess", "cancellable", "proxy-test")),
    PyTest("dbus-next==0.2.3", "test", 50, extras=("pytest<8", "pytest-asyncio<0.21"),
           without=("test_introspection.py", "test_marshaller.py"),
           around=("dbus-run-session", "--"), programs={"dbus-run-session": "dbus-daemon"}),
    PyTest("jeepney==0.9.0", "jeepney", 10, extras=("pytest", "pytest-asyncio", "pytest-trio", "trio", "testpath"),
           around=("dbus-run-session", "--"), programs={"dbus-run-session": "dbus-daemon"}),
    PyTest("xcffib==1.13.0", "test", 10, extras=("pytest",), programs={"Xvfb": "xvfb", "xclock": "x11-apps"}),
]
SUITES += [Desktop(module, function, sides, accelerates)
           for module in (dbus, xserver)
           for function, accelerates, every in module.SCENES
           for sides in (("both", "server", "client") if every else ("both",))]
