"""The drivers are compiled on the machine that runs them: once, into a cache, and what is missing for that is said."""

from pathlib import Path

import pytest

from kvoshim.bench import build as building
from kvoshim.bench.build import MODULE, PROGRAMS, READ_MODULE, BuildError, build

from .conftest import ROOT


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_what_is_there_is_not_compiled_again(programs, built):
    before = times(programs)
    assert set(before) == {*PROGRAMS, MODULE, READ_MODULE}
    assert build(ROOT, built) == programs and times(programs) == before


def test_without_the_source_tree_there_is_all_but_the_cores_module(built):
    assert set(times(build(output=built))) == set(PROGRAMS)


def test_other_flags_have_a_folder_of_their_own(programs, monkeypatch):
    sources = list(building.SOURCES.iterdir())
    before = building.digest(sources)
    monkeypatch.setattr(building, "FLAGS", (*building.FLAGS, "-O1"))
    assert building.digest(sources) != before


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert building.cache() == tmp_path / "kvoshim" / "bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert building.cache().is_relative_to(Path.home())


def test_without_a_compiler_the_command_says_what_is_missing(bench_command, tmp_path):
    done = bench_command("--only", "c-rtt/8B", CC="no-such-compiler", XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 2 and "no C compiler 'no-such-compiler'" in done.stderr and "apt-get install" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_that_does_not_compile_leaves_nothing(tmp_path):
    source = tmp_path / "wrong.c"
    source.write_text("int main(void) { return nothing; }\n")
    with pytest.raises(BuildError, match="nothing"):
        building.fresh(tmp_path / "wrong", lambda target: building.compile_program(source, target))
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.c"]


def test_a_cache_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match="XDG_CACHE_HOME"):
        build(output=tmp_path / "file")
