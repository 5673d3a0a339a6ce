"""When a registry is settled: once all that are expected have handed in what they had, not when they say anything else."""

from kvoshim.registry import wire
from kvoshim.registry.catalogue import Catalogue, Who
from kvoshim.registry.daemon.service import Service
from kvoshim.registry.daemon.settings import Limits


class Ledger:
    expected = {(7, 70), (8, 80)}


class Shelf:
    revision = 1


class Session:
    greeted, refusal, closed = True, None, False

    def __init__(self, pid, start):
        self.who = Who(pid, start, 0)
        self.sent = []
        self.send = self.put = self.sent.append


def test_a_sign_of_life_is_not_yet_all():
    service = Service(None, Catalogue(1, "h", "user", settled=False), Shelf(), Ledger(), None, Limits(), lambda session: None)
    first, second = Session(7, 70), Session(8, 80)
    service.sessions = {1: first, 2: second}
    service.handle(first, wire.Sync(5))
    service.handle(second, wire.Sync(6))
    assert not service.catalogue.settled and Ledger.expected == {(7, 70), (8, 80)}
    service.handle(first, wire.Sync(0))
    service.handle(first, wire.Sync(0))
    assert not service.catalogue.settled and Ledger.expected == {(8, 80)}
    service.handle(second, wire.Sync(0))
    assert service.catalogue.settled and first.sent[-1] == second.sent[-1] != wire.Done(0, 1)
