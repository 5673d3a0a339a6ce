"""Whatever a peer writes into its segment, only its own connection fails."""

import hostile
import pytest


@pytest.mark.watchdog(300)
@pytest.mark.parametrize("seed", [2, 5])
def test_a_hostile_peer_hurts_only_its_own_connection(tmp_path, seed):
    victim, peer, said = hostile.run(250, seed, tmp_path)
    assert (victim, peer) == (0, 0), said
    counts = dict(word.split("=") for word in said.split() if "=" in word)
    assert int(counts["rounds"]) == 250 and int(counts["resets"]) > 0, said
