"""Key-Value Observation across processes: an Observable publishes values, an Observer reads them and is told
of changes.

Values lie in shared memory that only their owner can write; reading one asks nobody. A controller process
knows who publishes and who observes what, finds changes and tells the observers. docs/kvo.md has the design.
"""

from kvoshim.kvo.observable import Observable
from kvoshim.kvo.observation import Change, Token
from kvoshim.kvo.observer import Observer

__all__ = ["Change", "Observable", "Observer", "Token"]
