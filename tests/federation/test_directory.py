"""Who is there and who is silent, as plain data; what comes from a bucket is looked at closely; port files of other hosts."""

import ast
import os
import random
from pathlib import Path

import msgspec
import pytest

import kvoshim.federation
from kvoshim.federation import keys
from kvoshim.federation.directory import Change, Directory
from kvoshim.registry.daemon import neighbours
from kvoshim.registry.entry import Entry
from kvoshim.registry.seat import portfile

OWN, HOST = keys.token("own"), keys.token("far")
E1, E2, E3 = "1" * 16, "2" * 16, "3" * 16


def entry(number: int, name: str = "engine", host: str = "far", **fields) -> Entry:
    made = Entry(number, name, 1, host, 100, 7, 0, "", "", {}, 5, False, 0.0, "test", "user")
    return msgspec.structs.replace(made, **fields)


def ids(change: Change) -> tuple[list[int], list[int]]:
    return [one.id for one in change.put], [one.id for one in change.drop]


def test_entries_count_from_the_moment_when_a_lease_names_their_epoch():
    directory = Directory(OWN, 3.0, 100)
    assert not directory.entry(HOST, E1, 1, entry(1)) and not directory.entry(HOST, E1, 2, entry(2))
    change = directory.lease(HOST, "far", E1, 10.0)
    assert ids(change) == ([1, 2], []) and change.awake == ["far"] and directory.hosts() == {"far": "here"}
    assert ids(directory.entry(HOST, E1, 3, entry(3))) == ([3], [])
    assert ids(directory.entry(HOST, E1, 3, entry(3, address="new"))) == ([3], [])
    assert ids(directory.entry(HOST, E1, 1, None)) == ([], [1])
    assert directory.whose(3) == "far" and directory.whose(1) == ""


def test_the_change_to_another_epoch_is_the_difference():
    directory = Directory(OWN, 3.0, 100)
    for number in (1, 2, 3):
        directory.entry(HOST, E1, number, entry(number))
    directory.lease(HOST, "far", E1, 10.0)
    for one in (entry(2), entry(3, address="new"), entry(4)):
        assert not directory.entry(HOST, E2, one.id, one)
    change = directory.lease(HOST, "far", E2, 11.0)
    assert (sorted(ids(change)[0]), ids(change)[1], change.stale) == ([3, 4], [1], [(HOST, E1)])
    assert not directory.entry(HOST, E1, 9, entry(9)), "of an epoch that is over"


def test_a_silent_host_is_hidden_and_shown_again():
    directory = Directory(OWN, 3.0, 100)
    directory.entry(HOST, E1, 1, entry(1))
    directory.lease(HOST, "far", E1, 10.0)
    assert directory.deadline() == 13.0 and not directory.pass_time(12.999)
    directory.lease(HOST, "far", E1, 12.0)
    assert not directory.pass_time(14.999)
    change = directory.pass_time(15.0)
    assert ids(change) == ([], [1]) and change.silent == ["far"] and not change.stale
    assert directory.deadline() is None and directory.hosts() == {"far": "silent"}
    assert not directory.entry(HOST, E1, 2, entry(2))
    assert ids(directory.lease(HOST, "far", E1, 99.0)) == ([1, 2], [])


def test_a_lease_that_has_expired_is_the_end_of_its_epoch_and_not_of_the_next_one():
    directory = Directory(OWN, 3.0, 100)
    directory.entry(HOST, E1, 1, entry(1))
    directory.lease(HOST, "far", E1, 10.0)
    directory.entry(HOST, E2, 1, entry(1))  # it is returning
    change = directory.lease_gone(HOST)
    assert ids(change) == ([], [1]) and change.stale == [(HOST, E1)]
    assert ids(directory.lease(HOST, "far", E2, 20.0)) == ([1], [])
    assert not directory.lease_gone(keys.token("nobody"))


def test_a_new_watch_is_compared_with_what_was_known():
    directory = Directory(OWN, 3.0, 100)
    other = keys.token("other")
    for host, name, number in ((HOST, "far", 1), (HOST, "far", 2), (other, "other", 7)):
        directory.entry(host, E1, number, entry(number, host=name))
        directory.lease(host, name, E1, 10.0)
    directory.begin_snapshot()
    directory.entry(HOST, E1, 2, entry(2))
    directory.entry(HOST, E1, 3, entry(3))
    directory.lease(HOST, "far", E1, 11.0)
    change = directory.end_snapshot()
    assert ids(change) == ([], [1]), "nothing is concluded of the host that was not named"
    assert ids(directory.pass_time(13.0)) == ([], [7])


def test_ones_own_keys_do_not_count_and_there_is_an_end_of_room():
    directory = Directory(OWN, 3.0, 2)
    assert not directory.entry(OWN, E1, 1, entry(1)) and not directory.lease(OWN, "own", E1, 1.0)
    for number in range(1, 5):
        directory.entry(HOST, E1, number, entry(number))
    assert len(directory.lease(HOST, "far", E1, 1.0).put) == 2 and directory.left_out == 2 and directory.count() == 2


def test_what_was_begun_over_and_over_and_never_completed_takes_no_room():
    directory = Directory(OWN, 3.0, 100)
    stale = []
    for number in range(50):
        stale += directory.entry(HOST, f"{number:016x}", 1, entry(1)).stale
    assert len(stale) == 46 and stale[0] == (HOST, "0" * 16)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_order_what_is_shown_is_what_was_told(seed):
    """The changes that are told add up to the present state, which is what the epoch in force has while its host is heard of."""
    chance = random.Random(seed)
    directory, shown = Directory(OWN, 3.0, 1000), {}
    truth = {keys.token(name): {} for name in ("a", "b", "c")}
    epoch, until, now = dict.fromkeys(truth, ""), dict.fromkeys(truth, 0.0), 0.0

    def add(change):
        for one in change.drop:
            del shown[one.host, one.id]
        for one in change.put:
            shown[one.host, one.id] = one

    for _ in range(400):
        host = chance.choice(list(truth))
        name = bytes.fromhex(host).decode()
        which, number = chance.choice((E1, E2, E3)), chance.randrange(1, 6)
        match chance.randrange(6):
            case 0 | 1 | 2:
                one = entry(number, host=name, address=str(chance.randrange(3))) if chance.random() < 0.7 else None
                add(directory.entry(host, which, number, one))
                entries = truth[host].setdefault(which, {})
                entries.pop(number, None)
                if one is not None:
                    entries[number] = one
            case 3:
                add(directory.lease(host, name, which, now))
                if which != epoch[host] or until[host] <= now:
                    truth[host] = {which: truth[host].get(which, {})}
                epoch[host], until[host] = which, now + 3.0
            case 4:
                add(directory.lease_gone(host))
                truth[host].pop(epoch[host], None)
                epoch[host], until[host] = "", 0.0
            case 5:
                now += chance.choice((0.5, 1.0, 3.0))
                add(directory.pass_time(now))
        expected = {
            (bytes.fromhex(one).decode(), key): value
            for one in truth if epoch[one] and until[one] > now for key, value in truth[one].get(epoch[one], {}).items()
        }  # fmt: skip
        assert shown == expected


def test_no_clock_of_any_host_is_looked_at():
    """Leases are judged by when they were heard of, on this host's monotonic clock: nothing reads the time of day, and no message and
    no lease bears a time."""
    for path in Path(kvoshim.federation.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert "time" not in [alias.name for alias in node.names], path
            if isinstance(node, ast.ImportFrom):
                assert node.module != "time", path
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("now", "utcnow", "today", "created"), path
    assert keys.Lease.__struct_fields__ == ("version", "host", "epoch")


def test_keys():
    key = keys.entry_key("häst.example", E1, 0xABC)
    assert keys.parse(key) == (keys.token("häst.example"), E1, 0xABC)
    assert keys.parse(keys.lease_key("far")) == (HOST, "", 0)
    for wrong in ("", "x", "l.a.b", "h.a.b", "h.a.b.c", f"h.a.{E1}.xyz", f"h.a.{E1}.1.2", "h..."):
        assert keys.parse(wrong) is None


def test_a_bucket_says_whose_it_is():
    names = [keys.bucket(name) for name in ("a", "b", "häst", "h" * 64, "h" * 65, "g" * 65)]
    assert len(set(names)) == 6 and all(len(name) < 150 and name.replace("-", "").isalnum() for name in names)


def test_what_no_registry_can_have_admitted_is_no_entry():
    good = entry(5, metadata={"a": 1})
    assert keys.decode_entry(5, keys.encode_entry(good), "host") == msgspec.structs.replace(good, reach="host")
    wrong = [
        entry(6), entry(5, name=""), entry(5, name="a*"), entry(5, name="a\nb"), entry(5, name="n" * 256), entry(5, address="\0"),
        entry(5, version="one"), entry(5, metadata={"a": "x" * 5000}), entry(5, pid=-1), entry(5, token=1 << 63),
        entry(5, host="\x1b[31m"), entry(5, program="x\ny"), entry(5, host="h" * 300),
    ]  # fmt: skip
    for one in wrong:
        assert keys.decode_entry(5, keys.encode_entry(one), "user") is None, one
    for data in (b"", b"\xc1", os.urandom(50), b"\x91" * 5000, keys.encode_entry(good)[:-1], bytes(keys.VALUE_MAX + 1)):
        assert keys.decode_entry(5, data, "user") is None
    assert keys.decode_lease(HOST, keys.encode_lease("far", E1)).epoch == E1
    for data in (b"", keys.encode_lease("other", E1), keys.encode_lease("far", "x"), msgspec.msgpack.encode([2, "far", E1])):
        assert keys.decode_lease(HOST, data) is None


def test_only_whole_port_files_of_this_user_count(tmp_path):
    def write(name, data, mode=0o600):
        path = tmp_path / name
        path.write_bytes(data)
        path.chmod(mode)
        return path

    facts = {"hosts": "10.0.0.1:4222 nats://x:1 [fe80::1]:5 :7 x"}
    record = portfile.Record(address="/a", cookie="00" * 32, pid=1, start=1, boot="", facts=facts)
    whole = portfile.line(record)
    write("good", whole)
    write("silent", portfile.line(msgspec.structs.replace(record, facts={})))
    write("own", whole)
    write(".good.lock", whole)
    write("half", whole[:-1])
    write("empty", b"")
    write("huge", whole[:-1] + b" " * portfile.FILE_MAX + b"\n")
    write("binary", os.urandom(300) + b"\n")
    write("open", whole, 0o644)
    os.chown(write("foreign", whole), 54321, 54321)
    (tmp_path / "link").symlink_to(tmp_path / "good")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    before = {path.name: path.lstat() for path in tmp_path.iterdir()}
    found = neighbours.look(str(tmp_path), "own", os.geteuid())
    assert found == {"good": ("10.0.0.1:4222", "[fe80::1]:5"), "silent": ()}
    after = {path.name: path.lstat() for path in tmp_path.iterdir()}
    assert {name: facts.st_mtime_ns for name, facts in after.items()} == {name: facts.st_mtime_ns for name, facts in before.items()}


def test_a_change_is_noticed_where_time_stamp_and_size_stay(tmp_path):
    def write(port):
        facts = {"hosts": f"10.0.0.1:{port}"}
        path = tmp_path / "far"
        path.write_bytes(portfile.line(portfile.Record(address="/a", cookie="00" * 32, pid=1, start=1, boot="", facts=facts)))
        path.chmod(0o600)
        os.utime(path, (1, 1))

    write(1111)
    told = []
    watching = neighbours.Neighbours(str(tmp_path), "own", os.geteuid(), 0.01, told.append)
    try:
        wait(lambda: told == [{"far": ("10.0.0.1:1111",)}])
        write(2222)
        wait(lambda: told[-1] == {"far": ("10.0.0.1:2222",)})
        (tmp_path / "far").unlink()
        wait(lambda: told[-1] == {})
    finally:
        watching.close()


def wait(condition):
    from registry_harness import until

    until(condition)
