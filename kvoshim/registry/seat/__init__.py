"""Where the registry is: its seat, which one process holds at a time.

    explaining, private       which registry would be used, and why; a registry for the children of one launcher
    finding                   the clients' side: find it, or see to it that there is one
    holding                   the holder's side: claim, listen, announce, stay
    policy                    what a program decides before its first use
    scope                     which registry, and the places where it can be found
    place                     one of these: port file, locks
    proof, portfile, patience, hostwide     what these are made of; the administrator's global file

Each file imports only files below it in this list. docs/registry.md has the whole.
"""

from kvoshim.registry.seat.explaining import Explanation, Step, explain
from kvoshim.registry.seat.finding import Contact, connect, race
from kvoshim.registry.seat.holding import Seat, claim
from kvoshim.registry.seat.policy import choose, configure
from kvoshim.registry.seat.private import PrivateRegistry, launch_private
from kvoshim.registry.seat.proof import Proof
from kvoshim.registry.seat.scope import Scope

__all__ = [
    "Contact", "Explanation", "PrivateRegistry", "Proof", "Scope", "Seat", "Step", "choose", "claim", "configure", "connect",
    "explain", "launch_private", "race",
]  # fmt: skip
