"""A connection of two threads: what one does while the other is in the midst of something else."""

import subprocess

import faultlib
import shimlib


def outcome(place, scene, slow):
    """What meanwhile.c prints while a call takes long."""
    where = place.new_dir(scene)
    hits = where / "hits"
    env = shimlib.env_of(shimlib.Shim(f"{where}/*", shimlib.Log(where / "log")), KVO_FAULT=f"{slow}:1:SLOW", KVO_FAULT_HITS=str(hits))
    env["LD_PRELOAD"] += f":{faultlib.library()}"
    done = subprocess.run([str(faultlib.meanwhile()), str(where / "s.sock"), scene], env=env, capture_output=True, text=True,
                          timeout=25)
    assert done.returncode == 0 and hits.exists(), done
    return done.stdout


def test_closing_waits_for_an_offer(place):
    """The segment does not outlive the connection."""
    assert outcome(place, "offering", "sendmsg.offer") == "0 memfds are left\n"


def test_no_way_back_while_descriptors_are_sent(place):
    assert outcome(place, "passing", "sendmsg.record") == "byte 7 with its descriptor\n"
