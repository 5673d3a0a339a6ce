"""Snippets that do not behave as on the kernel, and why: the README's "What is not intercepted" in test form. Each runs and
must still differ (a strict expected failure: it fails when it begins to pass)."""

WARM, COLD = "warm", "cold"  # after the switch to the rings; with the switch in the midst of the snippet

DIFFERS = {
    "efault_wild": ({WARM}, "the library copies in user space: a pointer to no memory is a segmentation fault (docs/shim.md)"),
}
