"""The kernel's table of descriptors has room for the library's own before a program has threads: growing it later would hold up a
request until every CPU has been through the scheduler."""

import sys

import shimlib

PROGRAM = """
import os
def room():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("FDSize"))
print(room(), sorted(os.listdir("/proc/self/fd")), flush=True)
if os.fork() == 0:
    print(room(), sorted(os.listdir("/proc/self/fd")), flush=True)
    os._exit(0)
os.wait()
"""


def test_the_table_is_wide_at_the_start_and_in_a_forked_child(place):
    rooms, descriptors = {}, {}
    for shim in (None, place.shim()):
        lines = shimlib.run([sys.executable, "-c", PROGRAM], shim).check().out.decode().splitlines()
        rooms[shim is not None] = [int(line.split(maxsplit=1)[0]) for line in lines]
        descriptors[shim is not None] = [line.split(maxsplit=1)[1] for line in lines]
    assert rooms[False][1] < 512 < min(rooms[True])  # the parent may have inherited a wide one
    assert descriptors[False] == descriptors[True]
