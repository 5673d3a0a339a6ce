"""Key-Value Observation across processes: an Observable publishes values, an Observer reads them and is told
of changes.

Values lie in shared memory that only their owner can write; reading one asks nobody. A controller process
knows who publishes and who observes what, finds changes and tells the observers. docs/kvo.md has the contract, a tutorial
and the design.
"""

from kvoshim._values import accept
from kvoshim.kvo.change import Change, Options
from kvoshim.kvo.changes import Changes
from kvoshim.kvo.keys import Key
from kvoshim.kvo.observable import Observable
from kvoshim.kvo.observer import Observer
from kvoshim.kvo.token import Token

__all__ = ["Change", "Changes", "Key", "Observable", "Observer", "Options", "Token", "accept"]
