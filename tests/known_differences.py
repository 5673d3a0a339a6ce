"""Snippets that do not behave as on the kernel yet, and why: the README's "What is not intercepted" in test form.

A snippet in DIFFERS runs and must still differ (a strict expected failure: it fails when it begins to pass). One in HANGS
would wait for something that never comes, so it is not run.
"""

WARM, COLD = "warm", "cold"  # after the switch to the rings; with the switch in the midst of the snippet

HANGS = {}

DIFFERS = {
    "efault_wild": ({WARM}, "the library copies in user space: a pointer to no memory is a segmentation fault (docs/shim.md)"),
}

# Not strict: it depends on the moment of the switch, or on whether other threads are about.
SOMETIMES = {}
