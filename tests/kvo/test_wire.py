"""Framing and messages."""

import pytest

from kvoshim import errors
from kvoshim.kvo import wire

MESSAGES = [
    wire.Hello(1, "program"),
    wire.Observe(7, 8, 4711, None, True, 3, b"i" * 16, 2),
    wire.Observe(7, 8, "n", "k", False, 0, b"", 0),
    wire.Bell(),
    wire.Publish(1, "ü" * 127, 9),
    wire.List(2**62),
    wire.Unobserve(5),
    wire.Listen(2, 3),
    wire.Deaf(4),
    wire.Linked(4, True),
]


def test_a_stream_cut_anywhere_gives_the_same_messages():
    stream = b"".join(wire.frame(message) for message in MESSAGES)
    for size in (1, 2, 3, 7, 64, len(stream)):
        frames = wire.PROTOCOL.of_client()
        got = []
        for start in range(0, len(stream), size):
            got.extend(frames.feed(stream[start : start + size]))
        assert got == MESSAGES


def test_an_error_comes_after_the_messages_before_it():
    frames = wire.PROTOCOL.of_client()
    got = []
    with pytest.raises(errors.ProtocolError):
        for message in frames.feed(wire.frame(MESSAGES[0]) + b"\x01\0\0\0\xc1"):
            got.append(message)
    assert got == MESSAGES[:1]


def test_the_largest_client_message_fits():
    largest = wire.Observe(2**63, 2**63, "n" * 255, "k" * 255, True, 2**63, bytes(16), 1)
    assert len(wire.frame(largest)) <= wire.CLIENT_MAX


def test_a_revision_that_nobody_can_have_seen_is_no_message():
    """An observer's word moves its observable's revisions: not as far as it likes."""
    for last, good in ((2**62, True), (2**62 + 1, False), (-1, False)):
        frames = wire.PROTOCOL.of_client()
        data = wire.frame(wire.Observe(1, 2, "n", "k", True, last, b"i" * 16, 0))
        if good:
            assert len(list(frames.feed(data))) == 1
        else:
            with pytest.raises(errors.ProtocolError):
                list(frames.feed(data))


def test_message_numbers_are_unique_and_errors_cross_the_wire():
    import typing

    tags = [
        kind.__struct_config__.tag
        for union in (wire.CLIENT_MESSAGES, wire.CONTROLLER_MESSAGES)
        for kind in typing.get_args(union)
    ]
    assert len(tags) == len(set(tags))
    for code, kind in wire.ERRORS.items():
        assert wire.PROTOCOL.code_of(kind("x")) == code
    assert wire.PROTOCOL.code_of(errors.InvalidKeyTypeError("x")) == "key"


def test_every_error_is_in_the_one_tree_and_in_its_map():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert all(issubclass(kind, errors.KvoshimError) for kind in kinds)
    for kind in kinds:
        assert kind.__name__ in errors.__doc__
        assert str(kind("text")) == "text"
