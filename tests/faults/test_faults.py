"""No memory, no descriptor, a refused call: both ends do what they do on kernel sockets, and the reason is counted."""

import faultlib
import pytest
from points import ACCELERATED, ANY, NOT_STARTED, POINTS

#: Scenes after which the statistics are another process's: there the log alone tells.
_OTHER_PROCESS = {"exec", "exec_client", "spawn", "fork", "late_fork"}


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_fault(place, point):
    """The call fails once, and for good."""
    for end, reason in point.ends.items():
        for which in filter(None, (point.which, point.lasting)):
            fault = {end: f"{point.name}:{which}:{point.errors.split()[0]}"}
            ends = faultlib.run_point(place, point, fault)
            assert ends[end].hits, f"the {end} did not make the call"
            faultlib.check(point, ends, fault)
            if which == point.which:
                assert_reason(reason, ends[end], point.scene)


def assert_reason(reason, one, scene):
    """It is counted in the statistics, and in the log."""
    said = f"refused {dict(one.refused)}, logged {dict(one.logged)}, accelerated {one.accelerated}\n{one.log}"
    if reason == NOT_STARTED:
        assert not one.accelerated and ("reason=no memory" in one.log or "reason=no-memory" in one.log), said
    elif reason == ACCELERATED:
        assert one.accelerated, said
    elif reason != ANY:
        assert one.logged[reason] or reason == "credentials", said
        assert one.refused[reason] or scene in _OTHER_PROCESS, said


def test_scenes_without_a_fault(place):
    """The control: the scenes accelerate, but for those that can't."""
    for scene in faultlib.SCENES:
        ends = faultlib.run(place, scene)
        faultlib.assert_same(scene, ends)
        assert all(end.accelerated for end in ends.values()) or scene in ("fork", "refused"), scene


def test_a_fault_is_the_library_s_alone(place):
    """The control of the controls: the program's own calls of the same name succeed."""
    ends = faultlib.run(place, "copies", {end: "memfd_create:1+:EMFILE" for end in faultlib.ENDS})
    faultlib.assert_same("copies", ends)
    assert ends["server"].hits and not ends["client"].hits
