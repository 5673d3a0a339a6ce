"""A connection of two threads: what one does while the other is in the midst of something else."""

import subprocess

import faultlib
import shimlib


def run(place, scene, **env):
    """What meanwhile.c prints, and the library's log."""
    where = place.new_dir(scene)
    log = shimlib.Log(where / "log")
    variables = shimlib.env_of(shimlib.Shim(f"{where}/*", log), KVO_FAULT_HITS=str(where / "hits"), **env)
    variables["LD_PRELOAD"] += f":{faultlib.library()}"
    done = subprocess.run([str(faultlib.meanwhile()), str(where / "s.sock"), scene], env=variables, capture_output=True,
                          text=True, timeout=25)
    assert done.returncode == 0 and (where / "hits").exists() == ("KVO_FAULT" in env), done
    return done.stdout, log


def test_closing_waits_for_an_offer(place):
    """The segment does not outlive the connection."""
    assert run(place, "offering", KVO_FAULT="sendmsg.offer:1:SLOW")[0] == "0 memfds are left\n"


def test_no_way_back_while_descriptors_are_sent(place):
    assert run(place, "passing", KVO_FAULT="sendmsg.record:1:SLOW")[0] == "byte 7 with its descriptor\n"


def test_a_child_that_has_waited_holds_up_nobody(place):
    """A bell that it might have to be woken by would keep every receive of the parent from sleeping."""
    _, log = run(place, "forked", KVOSHIM_SPIN_US="0")
    assert max(int(e.fields["sleeps"]) for e in log.events("closed")) > 0, log.text()
