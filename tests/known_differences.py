"""Snippets that do not behave as on the kernel yet, and why: the README's "What is not intercepted" in test form.

A snippet in DIFFERS runs and must still differ (a strict expected failure: it fails when it begins to pass). One in HANGS
would wait for something that never comes, so it is not run.
"""

WARM, COLD = "warm", "cold"  # after the switch to the rings; with the switch in the midst of the snippet

HANGS = {
    "scm_self": ({WARM, COLD}, "an accelerated descriptor handed to a running process with SCM_RIGHTS"),
    "epoll_nested": ({WARM, COLD}, "an epoll descriptor inside another epoll set"),
    "epoll_fork": ({WARM, COLD}, "an epoll set inherited through fork, waited on by the child"),
    "exec_plain": ({WARM, COLD}, "exec of a program without the library, on an accelerated connection"),
    "sigio": ({WARM}, "signal-driven input (O_ASYNC)"),
}

DIFFERS = {
    "oob": ({WARM}, "MSG_OOB is refused"),
    "sendfile": ({WARM, COLD}, "splice() says EINVAL"),
    "efault": ({WARM, COLD}, "an invalid buffer address is a segmentation fault"),
    "scm_credentials": ({WARM}, "SO_PASSCRED asked for after the switch"),
}

# Now and then, harmless: not strict.
SOMETIMES = {
    "epoll_edge": ({COLD}, "an edge-triggered set may tell once more, at the switch, of bytes that it has told of"),
}
