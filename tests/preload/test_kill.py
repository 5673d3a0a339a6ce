"""Kill -9 of either side in the middle of a transfer: the other side sees what the kernel would have shown it."""

import killlib
import pytest
import shimlib


@pytest.mark.watchdog(300)
@pytest.mark.parametrize("seed", [1])
def test_200_kills_at_random_moments(place, seed):
    shim = place.shim()
    seen = killlib.many_kills(place, shim, 200, seed)
    assert sum(seen.values()) == 200
    # Kills within the first moments find some connections not yet changed over; most must have been.
    assert shim.log.accelerated("client") + shim.log.accelerated("server") > 200, shim.log.plain_reasons()


@pytest.mark.parametrize("shimmed", [False, True], ids=["kernel", "shim"])
def test_server_outlives_killed_clients_and_holds_nothing_of_them(place, shimmed):
    shim: shimlib.Shim | None = place.shim() if shimmed else None
    killlib.kill_clients_of_one_server(place, shim, 120, 2)
    if shim:
        assert shim.log.accelerated("server") > 60


def test_the_kernel_itself_passes(place):
    """The control: on kernel sockets the same checks hold."""
    assert sum(killlib.many_kills(place, None, 20, 3).values()) == 20
