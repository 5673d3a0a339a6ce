"""The monitoring engine: which store is looked at when, what is found there, and who is to be told. Notifications are left in the
sessions' `pending`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from kvoshim.kvo.controller import members
from kvoshim.kvo.controller.entries import Registration, Store

_TURN_S = 0.0005  # of looking at one store, before the others and all clients have their turn
_ROUNDS = 4  # that each turn has, if others had the CPU all the time
_AT_ONCE = 64  # changes that are taken at a time
_SLOTS_AT_ONCE = 1024  # slots of which is found which keys they stand for


class Monitoring:
    """Part of Catalog."""

    # --- when a store is looked at ---------------------------------------------

    def waiting(self) -> bool:
        """The second look before sleeping: whether any store was written to that the controller has to tell of."""
        return any(self._due(store) for store in self._calling | self._repairing)

    def _due(self, store: Store) -> bool:
        return store.behind or store in self._repairing or store.monitor.called()

    def look_all(self) -> bool:
        """Takes in what was written, for as long as a turn of each store lasts; whether there was anything. Of the stores that
        have more for us than that, only one has its turn before everybody else's is served again."""
        self._turn += 1
        waiting = [store for store in self._calling | self._repairing if self._due(store)]
        behind = [store for store in waiting if store.behind]
        for store in waiting:
            if not store.behind:
                self.look(store)
        if behind:
            self.look(min(behind, key=lambda store: store.looked))
        return bool(waiting)

    def repair(self) -> None:
        """Has all versions compared with those told: finds what a writer stored but was stopped from saying."""
        for store in self._watched:
            revision, written = store.monitor.highest(), store.monitor.waiting()
            if revision != store.repaired or written or store.doubt:
                store.repaired, store.written = revision, written
                store.monitor.compare()
                self._repairing.add(store)

    def _compared(self, store: Store) -> None:
        """What follows for those who are rung directly."""
        self._repairing.discard(store)
        over, unannounced = store.monitor.ran_over(), store.monitor.unannounced()
        if not store.links:
            return
        if over:
            store.doubt = True
        elif unannounced or store.doubt and not store.written:
            store.doubt = False
            self.links.look(store)
        if store.written:
            self.links.ring(store)

    def _unwatch(self, store: Store) -> None:
        for stores in (self._watched, self._calling, self._repairing):
            stores.discard(store)

    @property
    def watching(self) -> bool:
        return bool(self._watched)

    # --- what is found there ---------------------------------------------

    def look(self, store: Store) -> None:
        """Leaves a notification for each change in one store, as long as its turn lasts."""
        store.looked = self._turn
        monitor, todo = store.monitor, store.todo
        end = time.monotonic() + _TURN_S
        store.behind, rounds = True, 0
        while store.behind and (rounds < _ROUNDS or time.monotonic() < end):
            rounds += 1
            if todo:
                self._look_at(store, *todo.popleft())
                continue
            if store.missing or store.sieves:
                todo.extend((slot, None) for slot in monitor.discover(_SLOTS_AT_ONCE))
            changes = monitor.changes(_AT_ONCE)
            todo.extend(changes)
            store.behind = bool(todo) or monitor.comparing() or bool(store.missing or store.sieves) and monitor.discovering()
        if store in self._repairing and not store.behind:
            self._compared(store)

    def _look_at(self, store: Store, slot: int, version: int | None) -> None:
        key = self._settle(store, slot)
        if version is not None:
            self._notify(members.of(store.by_key, key), slot, version)
            self._notify(_sifted(store.everything, key) if store.sieves else store.everything, slot, version)

    def _settle(self, store: Store, slot: int) -> str | None:
        """Takes in which key a slot stands for now, and lets those who observe it look if it is another one."""
        key, old, before = store.monitor.key_of(slot), store.bound.get(slot), store.keys.get(slot)
        if old is not None and old != key:
            # The key was removed and its slot given to another one.
            self._unbind(store, slot)
            store.missing.add(old)
            self._tell_owner(store)
            self._notify(members.of(store.by_key, old), slot, store.monitor.slot_version(slot), all_of_them=True)
            if (other := store.monitor.slot_of(old)) >= 0:
                store.todo.append((other, None))
        if key in store.missing:
            self._bind(store, key, slot)
        if store.sieves and before != key:  # who observes it is rung from now on
            if key is None:
                del store.keys[slot]
            else:
                store.keys[slot] = key
            self.links.placed(store, slot, key)
            patterns = [
                one
                for one in store.everything
                if one.sieve is not None and (before is not None or not one.told and self.links.sifts(one))
            ]
            self._notify(_sifted(patterns, before, key), slot, store.monitor.slot_version(slot), all_of_them=True)
        return key

    def _bind(self, store: Store, key: str, slot: int) -> None:
        """An observed key has a slot, and its observers look."""
        store.missing.discard(key)
        store.bound[slot] = key
        store.slots[key] = slot
        self.links.bound(store, key, slot, True)
        self.table.set_told(store.number, slot, key in store.told)
        self.table.set_observed(store.number, slot, True)
        self._tell_owner(store)
        self._notify(members.of(store.by_key, key), slot, store.monitor.name_slot(slot, True), all_of_them=True)
        for link in store.links.values():
            if key in link.by_key:
                self.links.flags(link)

    def _unbind(self, store: Store, slot: int) -> None:
        key = store.bound.pop(slot)
        self.links.bound(store, key, slot, False)
        del store.slots[key]
        store.monitor.name_slot(slot, False)
        self.table.set_observed(store.number, slot, False)
        self.table.set_told(store.number, slot, False)

    def _notify(self, registrations: Iterable[Registration], slot: int, version: int, all_of_them: bool = False) -> None:
        """Tells those of whom the controller has to care, or all of them."""
        for registration in registrations:
            if registration.told or all_of_them:
                registration.session.tell(registration, slot, version)
                self.counts.notified += 1


def _sifted(registrations: Iterable[Registration], *keys: str | None) -> list[Registration]:
    """Those of all keys, or of a pattern that one of these may match."""
    known = [key for key in keys if key is not None]
    return [one for one in registrations if one.sieve is None or any(map(one.sieve.lets, known))]
