"""Whatever happens to the process or the disk, at whatever moment: the repository opens with exactly what was acknowledged."""

import errno
import itertools
import os
from collections import Counter
from random import Random

import histories
import pytest
from memorydisk import MemoryDisk

from kvoshim.errors import KvoshimError, ReadOnlyRepositoryError, StorageError
from kvoshim.services.configd import journal
from kvoshim.services.configd.disk import Disk
from kvoshim.services.configd.engine import Engine
from kvoshim.services.configd.files import kept
from kvoshim.services.configd.storage import Storage
from kvoshim.services.core.model import Repository
from kvoshim.services.core.operations import Import, Report, SetProperty, keeps_nothing
from kvoshim.services.core.transacting import transact


@pytest.fixture(autouse=True)
def short_journals(monkeypatch):
    monkeypatch.setattr(journal, "AHEAD", 700)


WHERE, VOLATILE = "/repository", "/run"
SEEDS = range(7)


def opened(disk: Disk, boot: int = 1) -> Engine:
    return Engine(Storage.open(disk, WHERE, now=1.0, volatile=VOLATILE, epoch=str(boot)), itertools.count(2).__next__)


def durable(repository: Repository) -> tuple:
    """What must survive a loss of power."""
    return repository.revision, {name: kept(service) for name, service in repository.services.items()}


def whole(repository: Repository) -> tuple:
    """What must survive the process."""
    return repository.revision, repository.services


class Acknowledged:
    """What a repository may hold: what was acknowledged, or with the commit under way, of which its reports may be missing still."""

    def __init__(self, repository: Repository) -> None:
        self.states = [repository]

    def under_way(self, engine: Engine) -> None:
        entries = [entry for entry, _ in engine._waiting]
        states = [self.states[0]]
        for wanted in (lambda operations: not keeps_nothing(operations), lambda operations: True):
            state = self.states[0]
            for entry in entries:
                if entry.operations and wanted(entry.operations):
                    state = transact(state, entry.operations, taken=entry.taken)[0]
            states.append(state)
        self.states = states

    def commit(self, engine: Engine) -> None:
        self.states = [engine.repository]


def steps(engine: Engine, random: Random, acknowledged: Acknowledged, batches: int):
    """Commits of one to four transactions, and everything else that a daemon does in between; yields after each."""
    job = None
    for _ in range(batches):
        for _ in range(random.choice((1, 1, 2, 4))):
            try:
                engine.add(histories.transaction(random))
            except ReadOnlyRepositoryError:
                return
            except KvoshimError:
                continue
        if len(engine):
            acknowledged.under_way(engine)
            try:
                engine.commit()
            except StorageError:
                if not engine.storage.reason:
                    acknowledged.states = acknowledged.states[:1]
                yield False
            else:
                acknowledged.commit(engine)
                engine.settle()
        try:
            if job is not None and random.random() < 0.5:  # its files were being written while commits went on
                engine.storage.end_checkpoint(job, engine.storage.write_checkpoint(job))
                job = None
            elif job is None and random.random() < 0.2:
                job = engine.storage.begin_checkpoint(engine.repository)
            elif job is None and random.random() < 0.1:
                engine.checkpoint()
        except StorageError:
            job = None
        if random.random() < 0.1:
            try:
                engine.backup_imports()
            except OSError:
                pass
        yield True


def check(disk: MemoryDisk, acknowledged: list[Repository], boot: int, look, note: str) -> Engine:
    engine = opened(disk, boot)
    assert not engine.storage.reason, (note, engine.storage.reason)
    assert look(engine.repository) in [look(state) for state in acknowledged], note
    return engine


class CrashPoints:
    """Tries, before every change that a process makes to its disk, what follows if it ends there."""

    def __init__(self, random: Random, acknowledged: Acknowledged, count: Counter, boot: int = 1, look=whole) -> None:
        self.random, self.acknowledged, self.count, self.boot, self.look = random, acknowledged, count, boot, look

    def attach(self, disk: MemoryDisk) -> MemoryDisk:
        disk.before = lambda what, detail=None: self.point(disk, what, detail)
        return disk

    def point(self, disk: MemoryDisk, what: str, detail) -> None:
        states = list(self.acknowledged.states)
        note = f"{what} {sum(self.count.values())}"
        killed = disk.copy()
        if what == "write" and self.random.random() < 0.5:  # the process ends within it
            inode, offset, data = detail
            number = next(number for number, one in disk.inodes.items() if one is inode)
            killed.inodes[number].apply((offset, data[: self.random.randrange(len(data) + 1)]))
        dark = killed.without_power(self.random)
        self.count["killed"] += 1
        self._again(killed, states, self.boot, self.look, note + " killed")
        self.count["power"] += 1
        self._again(dark, states, self.boot + 1, durable, note + " without power")

    def _again(self, disk: MemoryDisk, states: list[Repository], boot: int, look, note: str) -> None:
        if self.random.random() < 0.05:  # and it ends once more while it recovers
            fate = Acknowledged(states[0])
            fate.states = states
            CrashPoints(self.random, fate, self.count, boot, look).attach(disk)
        engine = check(disk, states, boot, look, note)
        disk.before = lambda what, detail=None: None
        if self.random.random() < 0.1:  # it can go on
            after = Acknowledged(engine.repository)
            for _ in steps(engine, self.random, after, 3):
                pass
            check(disk.copy(), [engine.repository], boot, whole, note + ", later")
            check(disk.without_power(self.random), [engine.repository], boot + 1, durable, note + ", later without power")


def test_at_least_5000_crash_points(capsys):
    count: Counter = Counter()
    for seed in SEEDS:
        random = Random(seed)
        acknowledged = Acknowledged(Repository())
        disk = CrashPoints(random, acknowledged, count).attach(MemoryDisk())
        engine = opened(disk)
        engine.add((Import(service="web", instances={"default": histories.definition(random)}),))
        for _ in range(3):
            for _ in steps(engine, random, acknowledged, 4):
                pass
            if random.random() < 0.3:  # in between it ends in order, and begins again
                engine.storage.close()
                engine = opened(disk)
        assert engine.repository.revision
    with capsys.disabled():
        print(f"\n{count['killed']} crash points, as many with loss of power")
    assert count["killed"] >= 5000 and count["power"] >= 5000


@pytest.mark.parametrize("often", [0.03, 0.2])
def test_a_disk_that_refuses_loses_nothing_and_keeps_nothing_that_was_refused(often):
    outcomes: Counter = Counter()
    for seed in range(120):
        random = Random(1000 + seed)
        disk = MemoryDisk()
        engine = opened(disk)
        acknowledged = Acknowledged(engine.repository)

        def refuse(what, detail=None, random=random):
            if random.random() >= often:
                return
            if what == "write":  # full, in the midst of it
                inode, offset, data = detail
                inode.apply((offset, data[: random.randrange(len(data))]))
            elif what == "sync":  # the pages count as clean now, whatever has become of them
                detail.durable = disk._after_loss(detail, random)
                detail.pending = []
            raise OSError(random.choice((errno.ENOSPC, errno.EIO)), "injected")

        disk.before = refuse
        for done in steps(engine, random, acknowledged, 15):
            outcomes["kept" if done else "refused"] += 1
            assert engine.repository in acknowledged.states
        outcomes["read-only"] += bool(engine.storage.reason)
        disk.before = lambda what, detail=None: None
        check(disk.copy(), acknowledged.states, 2, durable, f"{seed} again")
        check(disk.without_power(random), acknowledged.states, 3, durable, f"{seed} without power")
    assert min(outcomes.values()) >= 1, outcomes


def test_every_bit_that_flips_in_the_journal_and_every_cut_is_noticed():
    """Nothing that was acknowledged is ever silently not there."""
    random, disk = Random(7), MemoryDisk()
    engine = opened(disk)
    engine.transact((Import(service="web", instances={"default": histories.definition(random)}),))
    engine.checkpoint()
    states = [whole(engine.repository)]
    for number in range(6):
        target = "web:default"
        engine.transact((SetProperty(target=target, group="config", name="number", value=number),))
        engine.transact((Report(target=target, properties={"n": number}),))
        states.append(whole(engine.repository))
    path = f"{WHERE}/journal-000002"
    good = disk.read(path)
    good = good.rstrip(b"\0")
    mark = good.rindex(b"\n", 0, -1) + 1
    for at in range(len(good)):
        for changed in (good[:at] + bytes([good[at] ^ (1 << at % 8)]) + good[at + 1 :], good[:at]):
            bad = disk.copy()
            bad.inodes[bad.cached[path]].cached = changed
            found = opened(bad)
            if at < mark:
                assert found.storage.reason, at
                assert found.repository.services["web"].layers == engine.repository.services["web"].layers
                with pytest.raises(ReadOnlyRepositoryError):
                    found.transact((SetProperty(target="web", group="config", name="number", value=1),))
            else:  # nobody needs the mark
                assert not found.storage.reason and whole(found.repository) == states[-1]


def test_the_test_sees_a_repository_that_does_not_sync():
    """The check itself works: without fsync, something is lost."""

    class Careless(MemoryDisk):
        def sync(self, handle):
            pass

    lost = 0
    for seed in range(30):
        random = Random(seed)
        disk = Careless()
        engine = opened(disk)
        acknowledged = Acknowledged(engine.repository)
        for _ in steps(engine, random, acknowledged, 8):
            pass
        try:
            check(disk.without_power(random), acknowledged.states, 2, durable, "")
        except AssertionError:
            lost += 1
    assert lost > 10


def test_every_effect_goes_through_the_disk():
    """What the crash points stand on: nothing else in the package opens, writes or renames."""
    folder = os.path.dirname(__import__("kvoshim.services.configd.disk").services.configd.disk.__file__)
    for name in ("journal", "files", "backups", "volatile", "recovery", "storage", "engine", "schema"):
        with open(os.path.join(folder, f"{name}.py")) as file:
            text = file.read()
        for word in ("os.open", " open(", "os.rename", "os.unlink", "os.mkdir", "fsync", "Path("):
            assert word not in text.replace("def open(", ""), (name, word)
