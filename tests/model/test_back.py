"""The way back to the kernel socket, checked by SPIN over its whole state space; each mutant of the model must be caught."""

import pytest
import spinlib

# The client sends, the server receives, unless said otherwise. SL: a thread that sends, and one that may leave.
SENDER, RECEIVER, ONE_BYTE = "CLIENT_LEAVES", "SERVER_LEAVES", "CLIENT_SENDS=1"
READER = [RECEIVER, "SERVER=RL", ONE_BYTE, "STRONG"]  # with the second look: too many states to search them all
THREADS = [SENDER, "CLIENT=SL", "CLIENT_SENDS=0", "STRONG"]
FAITHFUL = {
    "the sender leaves": [SENDER], "the receiver leaves": [RECEIVER], "both want to leave": [SENDER, RECEIVER, ONE_BYTE],
    "the sender leaves, bytes from before the cut unread": [SENDER, "UNREAD=1"],
    "the receiver leaves, bytes from before the cut unread": [RECEIVER, "UNREAD=1"],
    "both want to leave, before the cut": [SENDER, RECEIVER, ONE_BYTE, "FROM_START", "STRONG"],
    "another thread leaves": THREADS,
}
MUTANTS = {
    "RUNG_FIRST": [RECEIVER], "TAKE_COUNTED": [RECEIVER], "NOT_RESENT": [RECEIVER], "BELLS_TO_THE_LEFT": [RECEIVER],
    "LEFT_LATE": [RECEIVER], "BELLS_LEFT": [SENDER], "SWAP_BEFORE_LOCK": [RECEIVER, "UNREAD=1"],
    "BOTH_LEAVE": [SENDER, RECEIVER, ONE_BYTE], "NO_LOOK_BEFORE_END": READER,
}


@pytest.mark.watchdog(600)
@pytest.mark.parametrize("variant", FAITHFUL)
def test_every_byte_keeps_its_place(tmp_path, variant):
    spinlib.holds(tmp_path, "back.pml", FAITHFUL[variant])


@pytest.mark.watchdog(600)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_check_catches(tmp_path, mutant):
    spinlib.fails(tmp_path, "back.pml", [mutant, *MUTANTS[mutant]])
