"""Bringing what suites need: packages of Debian and of PyPI, unpacked sources. Everything is kept below `CACHE`."""

from __future__ import annotations

import fcntl
import getpass
import os
import re
import shutil
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from pathlib import Path

from conformance.suite import CACHE, Unavailable

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def _do(command: list, what: str, **options) -> None:
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", **options)
    if done.returncode:
        raise Unavailable(f"{what}: {' '.join(map(str, command))} failed:\n{done.stdout[-2000:]}")


@contextmanager
def once(name: str):
    """A folder CACHE/name that is filled by one process at a time, and only once: yields (folder, fresh). Where the block
    fails, the folder is filled anew by the next one."""
    folder = CACHE / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(folder.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / ".complete"
        fresh = not done.exists()
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        yield folder, fresh
        done.touch()


def program(name: str) -> str | None:
    """Absolute path of a program, also of one that only root has on its PATH; None: it is not installed."""
    return shutil.which(name, path=_PATH)


def debian(**packages: str) -> None:
    """Install the Debian packages whose programs are missing: debian(socat="socat", nc="netcat-openbsd").

    Starts no service. Raises Unavailable where there is no apt-get, no right to use it, or no such package.
    """
    missing = {name: package for name, package in packages.items() if not program(name)}
    if missing:
        apt_install(sorted(set(missing.values())))
    if missing := sorted(name for name in packages if not program(name)):
        raise Unavailable(f"no program {', '.join(missing)}, although its package is installed")


def apt_install(packages: list[str]) -> None:
    """apt-get install, without starting services. Raises Unavailable."""
    want = f"needs the Debian packages {' '.join(packages)}"
    if not program("apt-get"):
        raise Unavailable(f"{want}, and this machine has no apt-get")
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
    policy = Path("/usr/sbin/policy-rc.d")  # forbids package scripts to start services, unless the machine has its own
    ours = not policy.exists()
    try:
        if ours:
            _do([*as_root, "sh", "-c", f"printf '#!/bin/sh\\nexit 101\\n' > {policy}; chmod 755 {policy}"], want)
        install = [*as_root, *environment, "apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages]
        try:
            _do(install, want)
        except Unavailable:
            _do([*as_root, "apt-get", "update", "-qq"], want)
            _do(install, want)
    finally:
        if ours:
            _do([*as_root, "rm", "-f", policy], want)


def build(folder: Path, what: str, *commands: str) -> None:
    """Run commands of plain words in a folder with sources. Raises Unavailable."""
    for command in commands:
        _do(command.split(), what, cwd=folder)


def _apt_for_sources(folder: Path) -> dict[str, str]:
    """An environment in which apt-get also knows source packages, from where this machine has its packages; the lists
    are kept below `folder`, so that no right is needed and the machine's own stay as they are."""
    sources = folder / "sources"
    for name in (sources, folder / "lists" / "partial", folder / "cache" / "archives" / "partial"):
        name.mkdir(parents=True, exist_ok=True)
    apt = Path("/etc/apt")
    for path in [apt / "sources.list", *apt.glob("sources.list.d/*.list"), *apt.glob("sources.list.d/*.sources")]:
        if path.exists():
            text = re.sub(r"^(deb|Types:.*\bdeb)\b", lambda m: m[1] + "-src", path.read_text(), flags=re.M)
            (sources / path.name).write_text(text)
    config = folder / "apt.conf"
    config.write_text(f'Dir::Etc::SourceList "/dev/null"; Dir::Etc::SourceParts "{sources}"; Dir::Cache "{folder}/cache";\n'
                      f'Dir::State::Lists "{folder}/lists"; APT::Sandbox::User "{getpass.getuser()}";\n')
    return {**os.environ, "APT_CONFIG": str(config)}


def debian_source(name: str, package: str) -> Path:
    """The unpacked Debian source package `name` in CACHE/name-source, in the version of the installed `package` where that
    can be had, else in another. Raises Unavailable."""
    debian(**{"dpkg-source": "dpkg-dev"})
    with once(f"{name}-source") as (folder, fresh):
        if fresh:
            with once("apt") as (lists, new):
                environment = _apt_for_sources(lists)
                if new:
                    _do(["apt-get", "update", "-qq"], "lists of Debian's source packages", env=environment)
            ask = ["dpkg-query", "-W", "-f=${source:Version}", package]
            versions = [subprocess.run(ask, capture_output=True, text=True).stdout]
            known = subprocess.run(["apt-cache", "showsrc", name], capture_output=True, text=True, env=environment).stdout
            versions += [v for v in re.findall(r"^Version: (.*)", known, re.M) if v not in versions]
            for last, version in enumerate(versions, 1 - len(versions)):
                try:
                    _do(["apt-get", "source", "-qq", f"{name}={version}"], f"source package {name}", cwd=folder, env=environment)
                    break
                except Unavailable:
                    if last == 0:
                        raise
        return next(p for p in folder.iterdir() if p.is_dir())


def python_with(name: str, *requirements: str, base: str = sys.executable) -> Path:
    """The interpreter of a virtual environment of its own, CACHE/name, that has these PyPI packages. Raises Unavailable."""
    with once(name) as (folder, fresh):
        python = folder / "bin" / "python"
        if fresh:
            _do([base, "-m", "venv", folder], "python3-venv")
            _do([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements], "PyPI packages")
        return python


def sdist(requirement: str, name: str) -> Path:
    """The unpacked source distribution of a PyPI package ("uvloop==0.21.0") in CACHE/name. Raises Unavailable."""
    with once(name) as (folder, fresh):
        if fresh:
            _do([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--no-binary",
                 ":all:", "-d", folder, requirement], requirement)
            safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4
            for archive in folder.glob("*.tar.gz"):
                with tarfile.open(archive) as tar:
                    tar.extractall(folder, **safely)
                archive.unlink()
        return next(p for p in folder.iterdir() if p.is_dir())
