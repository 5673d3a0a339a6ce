"""Files that are not as they were written: found at the start, named, never guessed at; and the ways back."""

import itertools
import json
import os
import shutil

import msgspec
import pytest

from kvoshim.errors import ReadOnlyRepositoryError, RepositoryError
from kvoshim.services.configd import tools
from kvoshim.services.configd.disk import Disk
from kvoshim.services.configd.engine import Engine
from kvoshim.services.configd.schema import Migration, Schema
from kvoshim.services.configd.storage import Storage
from kvoshim.services.core import composing
from kvoshim.services.core.model import Definition
from kvoshim.services.core.operations import Import, Refresh, Report, SetProperty

DISK = Disk()


class Home:
    """A repository's directory on the real disk."""

    def __init__(self, place) -> None:
        self.directory = place / "repository"
        self.volatile = place / "run"
        self.open_ones = []

    def open(self, disk: Disk = DISK, schema: Schema | None = None) -> Engine:
        volatile = str(self.volatile)
        storage = Storage.open(disk, str(self.directory), now=1.0, volatile=volatile, epoch="one", schema=schema)
        self.open_ones.append(storage)
        return Engine(storage, itertools.count(2).__next__)

    def close(self) -> None:
        for storage in self.open_ones:
            storage.close()
        self.open_ones = []

    def fill(self, changes: int = 5) -> Engine:
        """A checkpoint of three services, a backup, and then changes in the journal."""
        engine = self.open()
        for name in ("web", "data/base", "log"):
            engine.transact((Import(service=name, definition=GROUPS, instances={"default": Definition()}),))
        engine.checkpoint()
        engine.backup_imports()
        for number in range(changes):
            engine.transact((number_of(number),))
        return engine

    def file(self, start: str, folder: str = "services"):
        (found,) = [path for path in (self.directory / folder).iterdir() if path.name.startswith(start)]
        return found

    def number(self, engine: Engine, service: str = "web") -> int:
        one = engine.repository.services[service]
        return composing.edited(one, one.instances["default"]).get("config", "number")


GROUPS = Definition(groups={"config": {"number": -1, "text": "some words"}})


def number_of(number: int, service: str = "web") -> SetProperty:
    return SetProperty(target=f"{service}:default", group="config", name="number", value=number)


@pytest.fixture
def home(place):
    one = Home(place)
    yield one
    one.close()


def flip(path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at if at >= 0 else len(data.rstrip(b"\0")) + at] ^= 0x10
    path.write_bytes(data)


def test_the_state_of_the_world_is_json_that_a_person_can_read(home):
    home.fill()
    document = json.loads(home.file("data+base@").read_text())
    assert document["layers"]["manifest"]["groups"] == {"config": {"number": -1, "text": "some words"}}
    assert sorted(json.loads((home.directory / "index.json").read_text())["services"]) == ["data/base", "log", "web"]
    line = (home.directory / "journal-000002").read_text().rstrip("\0").splitlines()[1]
    assert json.loads(line.split(" ", 2)[2])["entries"][0]["operations"][0]["op"] == "set-property"


@pytest.mark.parametrize("at", [3, 12, 60, 200, -60])
def test_a_flipped_bit_in_the_journal_is_found_and_what_was_before_it_is_shown(home, at):
    home.fill(8)
    home.close()
    journal = home.directory / "journal-000002"
    flip(journal, at)
    data = journal.read_bytes()
    engine = home.open()
    assert "journal-000002: " in engine.storage.reason and "not as it was written" in engine.storage.reason
    assert home.number(engine) in range(-1, 8)
    with pytest.raises(ReadOnlyRepositoryError, match="for reading only: .*journal-000002"):
        engine.transact((number_of(9),))
    engine.transact((Report(target="web:default", properties={"state": "online"}),))  # services run on, and are reported
    assert engine.repository.services["web"].instances["default"].volatile
    assert journal.read_bytes() == data  # nothing there was touched


def test_even_the_last_line_is_known_to_have_been_kept(home):
    home.fill(1)
    home.close()
    flip(home.directory / "journal-000002", -60)
    assert home.open().storage.reason


def test_a_torn_end_is_cut_off_and_said(home):
    home.fill(3)
    home.close()
    journal = home.directory / "journal-000002"
    whole = journal.read_bytes().rstrip(b"\0")
    lines = whole.splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:-1], lines[-2][:-20]]))  # another commit was under way
    engine = home.open()
    assert not engine.storage.reason and home.number(engine) == 2
    assert any("cut short were dropped" in note for note in engine.storage.notes)
    engine.transact((number_of(7),))
    home.close()
    assert home.number(home.open()) == 7


def test_a_journal_that_somebody_has_cut_off_is_found_until_it_is_restored(home):
    home.fill(5)
    home.close()
    journal = home.directory / "journal-000002"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:3]))  # in good order, and too short
    for _ in range(2):
        engine = home.open()
        assert "the transactions of revision 6 to 8 were acknowledged" in engine.storage.reason and home.number(engine) == 1
        home.close()
    tools.restore(DISK, str(home.directory), volatile=str(home.volatile))
    engine = home.open()
    assert not engine.storage.reason and engine.repository.revision == 9


def test_a_missing_journal_is_found(home):
    home.fill()
    home.close()
    os.unlink(home.directory / "journal-000002")
    assert "journal-000002 is missing" in home.open().storage.reason


@pytest.mark.parametrize("victim", ["services", "index.json", "all of services"])
def test_damaged_files_are_named_and_the_newest_good_backup_is_shown(home, victim):
    home.fill()
    home.close()
    if victim == "services":
        flip(home.file("log@"), 100)
        named = "log@"
    elif victim == "index.json":
        flip(home.directory / "index.json", 40)
        named = "index.json"
    else:
        shutil.rmtree(home.directory / "services")
        named = "web@"
    engine = home.open()
    assert named in engine.storage.reason
    assert any("what is shown is the backup" in note for note in engine.storage.notes)
    assert len(engine.repository.services) == 3 and home.number(engine) == -1
    with pytest.raises(ReadOnlyRepositoryError):
        engine.transact((number_of(9),))
    assert engine.checkpoint() == [] and engine.backup_imports() == ""


def test_restoring_a_backup_keeps_what_was_there_and_goes_on_with_later_revisions(home):
    before = home.fill().repository.revision
    home.close()
    flip(home.file("log@"), 100)
    assert not tools.verify(DISK, str(home.directory)).good
    report = tools.restore(DISK, str(home.directory))
    assert "restored" in report.lines[0] and (home.directory / "damaged-1" / "index.json").exists()
    assert tools.verify(DISK, str(home.directory)).good
    engine = home.open()
    assert not engine.storage.reason and engine.repository.revision == before + 1 and home.number(engine) == -1
    engine.transact((number_of(9),))
    home.close()
    assert home.number(home.open()) == 9


def test_restoring_a_backup_that_is_named(home):
    engine = home.fill()
    engine.transact((number_of(77),))
    path = engine.storage.backup("hand", engine.repository, 5.0)
    engine.transact((number_of(78),))
    with pytest.raises(RepositoryError, match="is in use: end its configd first"):
        tools.restore(DISK, str(home.directory), path)
    home.close()
    tools.restore(DISK, str(home.directory), os.path.basename(path))
    assert home.number(home.open()) == 77
    home.close()
    flip(home.directory / "backups" / os.path.basename(path), 300)
    with pytest.raises(RepositoryError, match="is no backup|not as it was written"):
        tools.restore(DISK, str(home.directory), path)
    assert any(line.startswith("damaged: ") for line in tools.verify(DISK, str(home.directory)).lines)


def test_restoring_can_be_cut_short_anywhere(home):
    home.fill()
    home.close()
    flip(home.file("log@"), 100)

    class Ends(Disk):
        left = 0

        def rename(self, old, new):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            super().rename(old, new)

    for steps in range(4):  # the index, the services, the journal; and the new index
        disk = Ends()
        disk.left = steps
        directory = f"{home.directory}-{steps}"
        shutil.copytree(home.directory, directory)
        with pytest.raises(KeyboardInterrupt):
            tools.restore(disk, directory)
        assert not tools.verify(DISK, directory).good
        tools.restore(DISK, directory)
        assert tools.verify(DISK, directory).good


def test_four_backups_of_each_kind_are_kept(home):
    engine = home.fill()
    for number in range(7):
        engine.transact((Import(service="web", definition=GROUPS, layer=f"profile/p{number}"),))
        engine.backup_imports()
        engine.storage.backup("hand", engine.repository, float(number))
    home.close()
    for number in range(6):
        engine = home.open()  # each start with something new makes one
        engine.transact((number_of(number),))
        home.close()
    home.open()
    names = sorted(os.listdir(home.directory / "backups"))
    assert [sum(name.startswith(kind) for name in names) for kind in ("boot", "hand", "import")] == [4, 4, 4]
    numbers = sorted(int(name.partition("-")[2].partition(".")[0]) for name in names)
    assert numbers[-1] == 1 + 7 + 7 + 7 - 1 or numbers[-1] > 15
    count = len(names)
    home.close()
    home.open()
    assert len(os.listdir(home.directory / "backups")) == count  # nothing new: none


def test_an_edited_file_is_adopted_only_when_somebody_says_so(home):
    home.fill(0)
    home.close()
    file = home.file("web@")
    document = json.loads(file.read_text())
    document["layers"]["manifest"]["groups"]["config"]["number"] = 4711
    file.write_text(json.dumps(document))
    assert "if somebody has edited it: --adopt takes it over" in home.open().storage.reason
    home.close()
    report = tools.adopt(DISK, str(home.directory))
    assert report.lines == ["adopted as revision 4: web"]
    engine = home.open()
    assert not engine.storage.reason and home.number(engine) == 4711
    one = engine.repository.services["web"].instances["default"]
    assert composing.running(one).get("config", "number") == -1  # until a refresh
    engine.transact((Refresh(target="web:default"),))
    assert tools.adopt is not None and not file.exists()
    home.close()
    assert tools.adopt(DISK, str(home.directory)).lines == ["no file has been edited"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.replace('"number": -1', '"number": -'), "is no service"),
        (lambda text: text.replace('"groups"', '"grups"'), "unknown field `grups`"),
        (lambda text: text.replace('"config"', '"con fig"'), "'con fig' is no name"),
    ],
)
def test_an_edited_file_that_does_not_fit_is_refused_with_its_place(home, edit, message):
    home.fill(0)
    home.close()
    file = home.file("web@")
    file.write_text(edit(file.read_text()))
    with pytest.raises(Exception, match=message) as raised:
        tools.adopt(DISK, str(home.directory))
    assert "web" in str(raised.value)
    home.open()


def test_a_file_that_is_edited_while_the_daemon_runs_is_kept_aside(home):
    engine = home.fill()
    file = home.file("web@")
    file.write_text(file.read_text().replace("some words", "my words"))
    assert engine.checkpoint() == [f"{file}.edited"]
    assert "my words" in (home.directory / "services" / f"{file.name}.edited").read_text()
    home.close()
    assert not home.open().storage.reason


def test_a_disk_that_is_full_or_read_only_at_the_start_is_a_reason_and_no_end(home):
    home.fill()
    home.close()

    class Refusing(Disk):
        def lock(self, path):
            raise OSError(30, "Read-only file system")

        def create(self, path):
            raise OSError(28, "No space left on device")

    engine = home.open(Refusing())
    assert "Read-only file system" in engine.storage.reason and home.number(engine) == 4
    engine.transact((Report(target="web:default", properties={"state": "online"}),))
    with pytest.raises(ReadOnlyRepositoryError):
        engine.transact((number_of(9),))


def test_two_processes_cannot_have_it_open(home):
    home.fill()
    with pytest.raises(RepositoryError, match="is in use by another process"):
        home.open()


# --- migration ---------------------------------------------

# What version 2 might be like: "number" has become "count", and an operation with it.


def _service(document: dict) -> dict:
    text = msgspec.json.encode(document).replace(b'"number"', b'"count"')
    return msgspec.json.decode(text)


def _operation(document: dict) -> list[dict]:
    if document["op"] == "expect":
        return []
    return [document | {"name": "count"} if document.get("name") == "number" else document]


TWO = Schema(2, {2: Migration(_service, _operation)})


def test_an_older_form_is_migrated_with_its_journal_and_kept_as_a_backup(home):
    home.fill(3)
    home.close()
    engine = home.open(schema=TWO)
    one = engine.repository.services["web"]
    assert composing.edited(one, one.instances["default"]).groups["config"] == {"count": 2, "text": "some words"}
    assert "migrated from version 1 to 2" in engine.storage.notes[-1] and engine.repository.revision == 7
    engine.transact((SetProperty(target="web:default", group="config", name="count", value=5),))
    home.close()
    engine = home.open(schema=TWO)
    web = engine.repository.services["web"]
    assert composing.edited(web, web.instances["default"]).get("config", "count") == 5
    home.close()
    assert '"number"' in home.file("migration-", "backups").read_text()
    # A backup of the old form can be restored into the new one.
    tools.restore(DISK, str(home.directory), home.file("migration-", "backups").name, TWO)
    engine = home.open(schema=TWO)
    assert engine.repository.services["web"].layers["manifest"].groups["config"]["count"] == -1


def test_a_later_form_is_not_touched(home):
    home.fill()
    home.close()
    home.open(schema=TWO)
    home.close()
    with pytest.raises(RepositoryError, match="has version 2 of the repository's form, later than this program's 1"):
        home.open()
    with pytest.raises(RepositoryError, match="there is no way from it to 3"):
        home.open(schema=Schema(3, {2: Migration()}))


def test_the_tools_on_the_command_line(stage):
    daemon = stage.start("--epoch", "one")
    with stage.client() as client:
        client.transact(Import(service="web", definition=GROUPS, instances={"default": Definition()}))
    assert stage.control("backup")["path"].endswith("hand-000001.json")
    assert "is in use" in stage.run("--restore").stderr
    assert '"revision": 1' in stage.run("configd", "checkpoint", command="ctl").stdout
    stage.end(daemon)
    done = stage.run("--verify")
    assert done.returncode == 0 and done.stdout.startswith("good: revision 1, 1 services\n"), done
    (file,) = (stage.directory / "services").iterdir()
    flip(file, 100)
    done = stage.run("--verify")
    assert done.returncode == 1 and done.stdout.startswith("damaged: ")
    daemon = stage.start("--epoch", "one")
    with stage.client() as client:
        assert "web@1.json is not as it was written" in client.read_only
        with pytest.raises(ReadOnlyRepositoryError):
            client.transact(number_of(1))
        assert list(client.read().services) == ["web"]
    assert "not as it was written" in stage.control("status-get")["read-only"]
    assert "FOR READING ONLY" in stage.end(daemon)
    assert stage.run("--restore").stdout.startswith("restored ")
    stage.start("--epoch", "one")
    with stage.client() as client:
        client.transact(number_of(1))
    assert stage.control("status-get")["read-only"] == ""
