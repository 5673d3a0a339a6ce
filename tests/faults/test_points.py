"""The table of points is complete, and says what is true of the sources."""

import re
import subprocess

import faultlib
import shimlib
from points import EXEMPT, POINTS

SOURCES = shimlib.ROOT / "pyx"
#: Names of points that are not the symbol, as the library needs it.
SYMBOLS = {"ftruncate": {"ftruncate", "ftruncate64"}, "mmap": {"mmap", "mmap64", "SYS_mmap"}, "fstat": {"fstat", "fstat64"},
           "pthread_atfork": {"__register_atfork"}}
BY_NUMBER = {"membarrier", "tgkill", "openat", "fallocate", "pwrite64", "getdents64"}


def _needed() -> set[str]:
    listed = subprocess.run(["nm", "-D", "--undefined-only", shimlib.library()], capture_output=True, text=True, check=True).stdout
    symbols = {line.split()[-1].split("@")[0] for line in listed.splitlines() if " w " not in line}
    table = re.search(r"struct kvo_next \{(.*?)\};", (SOURCES / "kvoshim/runtime.h").read_text(), re.S)[1]
    symbols |= set(re.findall(r"\(\*(\w+)\)\(", table))
    for source in [*SOURCES.glob("preload/*.c"), *SOURCES.glob("kvoshim/*.c"), *SOURCES.glob("kvoshim/*.pxd")]:
        symbols |= set(re.findall(r"\bSYS_\w+", source.read_text()))
    return symbols


def _named() -> set[str]:
    named = set()
    for name in {p.name.partition(".")[0] for p in POINTS}:
        named |= {f"SYS_{name}"} if name in BY_NUMBER else SYMBOLS.get(name, {name})
    return named


def _exempt() -> list[str]:
    return [symbol for symbols in EXEMPT.values() for symbol in symbols.split()]


def test_each_call_is_a_point_or_exempt():
    assert not _needed() - _named() - set(_exempt())


def test_each_point_and_each_exemption_is_a_call_of_the_library():
    # What the compiler or another C library may need beside.
    assert not (_named() | set(_exempt())) - _needed() - {"memcmp", "__stack_chk_fail", "__cxa_finalize", "ftruncate"}
    assert len(_exempt()) == len(set(_exempt()))


def test_the_fault_library_knows_each_name():
    known = set(re.findall(r'"([\w.]+)"', (faultlib.HERE / "fault.c").read_text()))
    assert not {p.name for p in POINTS} - known


def test_the_branches_are_where_the_table_says():
    text = "".join(p.read_text() for p in SOURCES.rglob("*.*") if p.suffix in (".c", ".pxd", ".pyx"))
    missing = {p.where for p in POINTS if not re.search(rf"^[\w*].*\b{p.where}\(", text, re.M)}
    assert not missing


def test_each_scene_is_used():
    assert {p.scene for p in POINTS} | {"poll", "early_poll", "fork", "dup", "handed", "exec_plain"} == set(faultlib.SCENES)
