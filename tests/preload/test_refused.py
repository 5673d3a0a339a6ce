"""What the library refuses, or does otherwise than the kernel: each is named in docs/shim.md."""

import signal

import shimlib
import snippetlib


def _wild_pointer(place, shim):
    where = place.new_dir("shims" if shim else "plain")
    return shimlib.run([str(snippetlib.compiled("wild_pointer", "programs"))], shim, cwd=where, SNIPPET_PATH=str(where / "s.sock"),
                       SNIPPET_MODE="thread", SNIPPET_WARM="50")


def test_a_pointer_to_no_memory_is_a_segmentation_fault(place):
    """On the kernel socket it is EFAULT; the library copies in user space, as memcpy() does."""
    plain = _wild_pointer(place, None)
    assert plain.status == 0 and plain.out.count(b"-> -1 EFAULT") == 2, plain
    shim = place.shim()
    assert _wild_pointer(place, shim).status == -signal.SIGSEGV
    assert shim.log.accelerated("server") == 1, shim.log.text()
