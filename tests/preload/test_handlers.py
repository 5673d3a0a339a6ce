"""Signal handlers that use the connection they interrupt, before, during and after its switch."""

import pytest
import shimlib
import snippetlib


@pytest.mark.parametrize("warmup", ["0", "4", "30"])
@pytest.mark.parametrize("shimmed", [True, False])
def test_handlers_that_use_the_connection(place, shimmed, warmup):
    shim = place.shim(KVOSHIM_WARMUP=warmup) if shimmed else None
    done = shimlib.run([str(snippetlib.compiled("handler", "programs")), str(place / "s")], shim).check()
    assert done.out == b"every byte\n"
    if shimmed:
        assert shim.log.accelerated("client") > 50, shim.log.plain_reasons()
