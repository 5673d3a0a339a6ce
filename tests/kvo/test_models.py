"""The lock-free protocols as models, all interleavings of which are enumerated on a machine with store
buffers (as x86 has them: a load may overtake an earlier store to another word; a fence empties the buffer).

Each model also runs with a step left out, and must fail then: otherwise it would prove nothing.
"""

import pytest

# A thread is a list of steps:
#   ("store", word, value)   value: a number, or a function of the registers
#   ("load", register, word)
#   ("copy", register, other register)
#   ("fence",)
#   ("if", condition of the registers, index of the step to go on with if it is false)
#   ("wait", word)           until the word in memory is not 0; then it is set to 0


def value_of(value, registers):
    return value(dict(registers)) if callable(value) else value


def step(threads, state):
    """All states that can follow."""
    memory, locals_ = state
    following = []
    for i, (pc, registers, buffer) in enumerate(locals_):

        def become(new_memory, new_local, i=i):
            following.append((new_memory, locals_[:i] + (new_local,) + locals_[i + 1 :]))

        if buffer:  # the oldest buffered store may reach memory at any time
            become(
                tuple(sorted({**dict(memory), buffer[0][0]: buffer[0][1]}.items())),
                (pc, registers, buffer[1:]),
            )
        if pc >= len(threads[i]):
            continue
        kind, *operands = threads[i][pc]
        if kind == "store":
            become(memory, (pc + 1, registers, buffer + ((operands[0], value_of(operands[1], registers)),)))
        elif kind == "load":
            own = [value for word, value in buffer if word == operands[1]]
            value = own[-1] if own else dict(memory)[operands[1]]
            become(memory, (pc + 1, tuple(sorted({**dict(registers), operands[0]: value}.items())), buffer))
        elif kind == "copy":
            become(
                memory,
                (
                    pc + 1,
                    tuple(sorted({**dict(registers), operands[0]: dict(registers)[operands[1]]}.items())),
                    buffer,
                ),
            )
        elif kind == "fence" and not buffer:
            become(memory, (pc + 1, registers, buffer))
        elif kind == "if":
            become(memory, (pc + 1 if operands[0](dict(registers)) else operands[1], registers, buffer))
        elif kind == "wait" and not buffer and dict(memory)[operands[0]]:
            become(tuple(sorted({**dict(memory), operands[0]: 0}.items())), (pc + 1, registers, buffer))
    return following


def final_states(memory, *threads):
    """Every state in which nothing can happen any more, as (memory, program counters, registers)."""
    start = (tuple(sorted(memory.items())), tuple((0, (), ()) for _ in threads))
    seen, todo, finals = {start}, [start], []
    while todo:
        state = todo.pop()
        following = step(threads, state)
        if not following:
            finals.append(
                (dict(state[0]), [local[0] for local in state[1]], [dict(local[1]) for local in state[1]])
            )
        for new in following:
            if new not in seen:
                seen.add(new)
                todo.append(new)
    return finals


def observable(fence):
    """set(), twice: mark the ring, fence, look at the epoch; ring if it is odd and not the one rung for
    last."""
    steps = []
    for mark in (1, 2):
        at = len(steps)
        steps += [
            ("store", "ring", mark),
            fence,
            ("load", "epoch", "epoch"),
            ("if", lambda r: r["epoch"] % 2 and r["epoch"] != r.get("rung"), at + 6),
            ("store", "bell", 1),
            ("copy", "rung", "epoch"),
        ]
    return steps


def controller(fence):
    """Twice: arm, fence, second look; sleep if there is nothing new; disarm, fence, take what is there."""
    steps = []
    for epoch in (1, 3):
        at = len(steps)
        steps += [
            ("store", "epoch", epoch),
            fence,
            ("load", "head", "ring"),
            ("if", lambda r: r["head"] == r.get("tail", 0), at + 5),
            ("wait", "bell"),
            ("store", "epoch", epoch + 1),
            fence,
            ("load", "tail", "ring"),
        ]
    return steps


@pytest.mark.parametrize("left_out", [None, "observable", "controller"])
def test_no_change_is_slept_through(left_out):
    fence, nothing = ("fence",), ("store", "unused", 0)
    finals = final_states(
        {"ring": 0, "epoch": 0, "bell": 0, "unused": 0},
        observable(nothing if left_out == "observable" else fence),
        controller(nothing if left_out == "controller" else fence),
    )
    # Asleep for good with a mark that it has not taken: a lost wake-up.
    lost = [
        memory
        for memory, (_, at), (_, registers) in finals
        if at < 16 and memory["ring"] != registers.get("tail", 0)
    ]
    assert finals and bool(lost) == (left_out is not None)


@pytest.mark.parametrize("left_out", [None, "owner", "controller"])
def test_a_value_set_while_its_observation_begins_is_seen_by_one_of_both(left_out):
    """The owner publishes, then reads the flag; the controller raises the flag, then reads the version."""
    fence, nothing = ("fence",), ("store", "unused", 0)
    owner = [("store", "sequence", 1), nothing if left_out == "owner" else fence, ("load", "flag", "flag")]
    registering = [
        ("store", "flag", 1),
        nothing if left_out == "controller" else fence,
        ("load", "version", "sequence"),
    ]
    finals = final_states({"sequence": 0, "flag": 0, "unused": 0}, owner, registering)
    missed = [1 for _, _, (its, ours) in finals if its["flag"] == 0 and ours["version"] == 0]
    assert finals and bool(missed) == (left_out is not None)


def writes(count, begin=True):
    """A record is two words; write n puts n into both words of record n % 2."""
    steps = []
    for version in range(1, count + 1):
        record = version % 2
        steps += [("store", "begin", version)] if begin else []
        steps += [
            ("store", f"a{record}", version),
            ("store", f"b{record}", version),
            ("store", "sequence", version),
        ]
    return steps


@pytest.mark.parametrize("begin", [True, False])
def test_a_slot_is_never_read_torn(begin):
    def reading(record):
        return [("load", "a", f"a{record}"), ("load", "b", f"b{record}"), ("load", "begin", "begin")]

    reader = [
        ("load", "version", "sequence"),
        ("if", lambda r: r["version"] % 2 == 0, 6),
        *reading(0),
        ("if", lambda r: False, 9),
        *reading(1),
    ]
    memory = {"begin": 0, "sequence": 0, "a0": 0, "b0": 0, "a1": 0, "b1": 0}
    finals = final_states(memory, writes(4, begin), reader)
    accepted = [
        registers for _, _, (_, registers) in finals if registers["begin"] - registers["version"] <= 1
    ]
    torn = [
        registers for registers in accepted if not registers["a"] == registers["b"] == registers["version"]
    ]
    assert bool(torn) == (not begin)
    if begin:
        assert {registers["version"] for registers in accepted} == {0, 1, 2, 3, 4}
        # One write under way, however slow or dead its writer, costs the reader nothing.
        assert any(registers["begin"] == registers["version"] + 1 for registers in accepted)


def transactions(count, keys="s", in_order=True):
    """Transaction n writes n to both words of the next record of each key, publishes them, and puts them in force."""
    steps = []
    for version in range(1, count + 1):
        record = version % 2
        force = [("store", "revision", version)]
        steps += [] if in_order else force
        for key in keys:
            steps += [
                ("store", f"{key}begin", version),
                ("store", f"{key}a{record}", version),
                ("store", f"{key}b{record}", version),
                ("store", f"{key}sequence", version),
            ]
        steps += force if in_order else []
    return steps


def memory_of(keys):
    words = ("begin", "sequence", "a0", "b0", "a1", "b1")
    return {"revision": 0, **{key + word: 0 for key in keys for word in words}}


def reading(key, at, second_look=True):
    """Reads a key as of the revision in register `limit`: `used` is the record's write, `x` and `y` its words, `ok` whether it
    was whole. at: the index of the first step."""
    steps = [("load", "n", f"{key}sequence")]

    def branch(parity, before):
        """The record of write n, whose parity is known, or (before) of the write before it."""
        record = parity ^ before
        return [
            ("load", f"{key}x", f"{key}a{record}"),
            ("load", f"{key}y", f"{key}b{record}"),
            ("load", f"{key}begin", f"{key}begin"),
        ]

    size = 2 + 2 * 3  # the steps of one parity: a record, a decision, the record before
    for parity in (0, 1):
        start = at + len(steps)
        end = start + 1 + size
        steps += [("if", lambda r, parity=parity: r["n"] % 2 == parity, end)]
        steps += branch(parity, False)
        steps += [("if", lambda r, key=key: r[f"{key}x"] > r["limit"], end)]
        again = branch(parity, True)
        steps += again if second_look else again[:2] + [("copy", f"{key}begin", f"{key}begin")]
        steps += [("copy", "n", "n")]
    steps += [("copy", f"{key}n", "n")]
    return steps


def whole(registers, key):
    """Whether the reader takes what it has read: `begin` is no more than one write beyond the record that was used."""
    used = registers[f"{key}n"] - (registers[f"{key}x"] != registers[f"{key}n"])
    return registers[f"{key}begin"] - used <= 1


@pytest.mark.parametrize("mutant", [None, "in force too early"])
def test_a_transaction_is_read_whole_or_not_at_all(mutant):
    """Two keys as of one revision: both have what the last transaction up to it has set."""
    owner = transactions(2, "st", in_order=mutant is None)
    reader = [("load", "limit", "revision")]
    reader += reading("s", len(reader))
    reader += reading("t", len(reader))
    finals = final_states(memory_of("st"), owner, reader)
    taken = [registers for _, _, (_, registers) in finals if whole(registers, "s") and whole(registers, "t")
             and registers["sx"] <= registers["limit"] and registers["tx"] <= registers["limit"]]
    torn = [registers for registers in taken if not (
        registers["sx"] == registers["sy"] == registers["tx"] == registers["ty"] == registers["limit"])]
    assert taken and bool(torn) == (mutant is not None)
    if mutant is None:
        assert {registers["limit"] for registers in taken} == {0, 1, 2}


@pytest.mark.parametrize("second_look", [True, False])
def test_the_record_before_is_looked_at_twice_too(second_look):
    reader = [("load", "limit", "revision"), *reading("s", 1, second_look)]
    finals = final_states(memory_of("s"), transactions(4), reader)
    taken = [registers for _, _, (_, registers) in finals if whole(registers, "s") and registers["sx"] <= registers["limit"]]
    torn = [registers for registers in taken if registers["sx"] != registers["sy"]]
    assert taken and bool(torn) == (not second_look)
