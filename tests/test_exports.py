"""The preload library exports exactly its reviewed list, and needs nothing of Python."""

import pathlib
import re
import subprocess

from kvoshim import launcher

ROOT = pathlib.Path(__file__).parents[1]


def symbols(*options):
    lines = subprocess.run(["nm", "-D", *options, launcher.library_path()], capture_output=True, text=True, check=True)
    return {line.split()[-1].split("@")[0] for line in lines.stdout.splitlines()}


def listed():
    text = re.sub(r"/\*.*?\*/", "", (ROOT / "pyx/preload/exports.map").read_text(), flags=re.S)
    return set(re.findall(r"(\w+);", text.split("local:")[0].split("global:")[1]))


def test_exports_are_the_reviewed_list():
    assert symbols("--defined-only") == listed()


def test_no_python_symbol_is_needed():
    needed = symbols("--undefined-only")
    assert needed and not [name for name in needed if "Py" in name]


def test_each_intercepted_call_is_caught(tmp_path):
    """The dynamic linker binds a program's calls to the library, not to the C library."""
    names = sorted(listed() - {"kvoshim_connection_id"})
    source = tmp_path / "caught.c"
    source.write_text("#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <stdio.h>\n#include <string.h>\n"
                      "int main(void) {\n" + "".join(
                          f'  {{ Dl_info i; void *p = dlsym(RTLD_DEFAULT, "{name}");\n'
                          f'    printf("{name} %d\\n", p && dladdr(p, &i) && strstr(i.dli_fname, "libkvoshim") != 0); }}\n'
                          for name in names) + "  return 0;\n}\n")
    subprocess.run(["cc", "-o", tmp_path / "caught", source], check=True)
    out = subprocess.run([tmp_path / "caught"], env={"LD_PRELOAD": launcher.library_path()}, capture_output=True,
                         text=True, check=True, timeout=30).stdout
    assert dict(line.split() for line in out.splitlines()) == {name: "1" for name in names}
