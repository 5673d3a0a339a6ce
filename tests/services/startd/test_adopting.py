"""What a new restarter makes of what it finds."""

import pytest

from kvoshim.services.core.states import Phase, Status
from kvoshim.services.startd import tokens
from kvoshim.services.startd.adopting import adopt


@pytest.mark.parametrize(
    ("phase", "run", "alive", "free", "then", "what"),
    [
        (Phase.ONLINE, 3, True, False, Phase.ONLINE, "runs"),
        (Phase.STARTING, 3, True, False, Phase.STARTING, "runs"),
        (Phase.RESTOPPING, 3, True, False, Phase.RESTOPPING, "runs"),
        (Phase.WAITING, 4, True, False, Phase.STARTING, "runs"),  # started and not reported yet
        (Phase.DISABLED, 4, True, False, Phase.STARTING, "runs"),
        (Phase.ONLINE, 3, False, False, Phase.ONLINE, "ended"),
        (Phase.WAITING, 3, False, False, Phase.WAITING, "forget"),
        (Phase.BACKOFF, 3, False, False, Phase.BACKOFF, "forget"),
        (Phase.BACKOFF, 4, False, False, Phase.STARTING, "ended"),
        (Phase.ONLINE, 3, False, True, Phase.ONLINE, "forget"),  # a one-shot service that is done
        (Phase.ONLINE, None, False, False, Phase.ONLINE, "lost"),
        (Phase.ONLINE, None, False, True, Phase.ONLINE, "nothing"),
        (Phase.STARTING, None, False, False, Phase.WAITING, "nothing"),
        (Phase.RESTOPPING, None, False, False, Phase.RESTOPPING, "nothing"),
        (Phase.MAINTENANCE, None, False, False, Phase.MAINTENANCE, "nothing"),
    ],
)
def test_adopting(phase, run, alive, free, then, what):
    status, found = adopt(Status(phase=phase, run=3), run, alive, True, free)
    assert (status.phase, found, status.run) == (then, what, run or 3)


def test_a_token_says_whose_it_is_and_which_run():
    token = tokens.token("web:default", tokens.MAIN, 70000)
    assert tokens.split(token) == (tokens.owner("web:default", tokens.MAIN), 70000)
    assert 0 < token < 2**64
    owners = {tokens.owner(f"web:{n}", role) for n in range(1000) for role in tokens.ROLES}
    assert len(owners) == 5000
