"""Programs of which the environment alone would say that they have the library: static ones, and what can't be read."""

import os
import shutil

import pytest
import shimlib
import snippetlib

CAT = """
#include <unistd.h>
int main(void) {
  char b[4096];
  for (ssize_t n; (n = read(0, b, sizeof b)) > 0;)
    for (ssize_t done = 0, k; done < n; done += k) if ((k = write(1, b + done, n - done)) < 0) return 1;
  return 0;
}
"""


@pytest.fixture
def static_cat(place):
    source = place / "cat.c"
    source.write_text(CAT)
    return snippetlib.built(source, place / "cat", ("-static",))


@pytest.mark.parametrize("warm", [50, 0])
@pytest.mark.parametrize("scene", ["shimmed", "shimmed_descriptor", "shimmed_vfork", "shimmed_spawn"])
def test_a_static_successor(place, static_cat, scene, warm):
    plain, shimmed, shim = snippetlib.run_both(place, f"served:{scene}", SNIPPET_MODE="process", SNIPPET_WARM=str(warm),
                                               SNIPPET_PROGRAM=str(static_cat))
    snippetlib.assert_same(plain, shimmed, shim)
    assert b"3000 bytes, the same 1" in shimmed.out
    if warm:
        assert shim.log.accelerated("server") == 1 and shim.log.plain_reasons("server").get("exec") == 1, shim.log.text()


def test_a_script_of_a_static_interpreter(place, static_cat):
    script = place / "script"
    script.write_text(f"#!{static_cat}\n")
    script.chmod(0o755)
    plain, shimmed, shim = snippetlib.run_both(place, "served:shimmed", SNIPPET_MODE="process", SNIPPET_PROGRAM=str(script))
    snippetlib.assert_same(plain, shimmed, shim)
    assert b"3000 bytes, the same 1" in shimmed.out


def test_a_program_that_may_not_be_read(place):
    """It may run with others' rights: only the kernel knows."""
    program, where, shim = place / "cat", place.new_dir("run"), place.shim()
    shutil.copy("/bin/cat", program)
    program.chmod(0o111)
    where.chmod(0o777)
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    done = shimlib.run([*user, *snippetlib.command("served:shimmed")], shim, SNIPPET_PATH=str(where / "s.sock"),
                       SNIPPET_MODE="process", SNIPPET_PROGRAM=str(program)).check()
    assert b"3000 bytes, the same 1" in done.out
    assert shim.log.plain_reasons("server").get("exec") == 1, shim.log.text()
