"""Fails every call of every point in every scene, one at a time: the first, the second, and so on until there are no more.

    python tests/faults/sweep.py [--most N] [--scenes S,...] [--points P,...] [--seed SEED]

--most: how many calls of one point in one run of a scene at most (default 12).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
import faultlib  # noqa: E402
import points  # noqa: E402
import shimlib  # noqa: E402

_BECOMES = {("exec", "server"), ("exec_client", "client"), ("spawn", "server")}


def _point(name: str, scene: str, end: str, successor: bool) -> points.Point:
    """What may come of it: the table's word for the name, wherever the call is made."""
    named = [p for p in points.POINTS if p.name == name]
    ends = any(p.outcome == points.ENDS and p.successor == successor for p in named)
    return points.Point(name, " ".join(p.errors for p in named), "", {end: points.ANY}, scene, successor=successor,
                        outcome=points.ENDS if ends else points.SAME, differs="|".join(p.differs for p in named))


def _one(place: shimlib.Place, point: points.Point, end: str, n: int, error: str) -> bool:
    """False: the call was not made so often."""
    fault = {end: f"{point.name}:{n}:{error}"}
    ends = faultlib.run_point(place, point, fault)
    if not ends[end].hits:
        return False
    try:
        faultlib.assert_same(point.scene, ends, fault, point.differs)
    except AssertionError:
        if point.outcome != points.ENDS:
            raise
        faultlib.check(point, ends, fault)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=12)
    parser.add_argument("--scenes", default=",".join(faultlib.SCENES))
    parser.add_argument("--points", default=",".join(dict.fromkeys(p.name for p in points.POINTS)))
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    chance = random.Random(options.seed)
    runs = failures = 0
    for name in options.points.split(","):
        start, made = time.monotonic(), 0
        for scene in options.scenes.split(","):
            for end in faultlib.ENDS:
                for successor in (False, True) if (scene, end) in _BECOMES else (False,):
                    if successor and name in points.NEVER_AFTER_EXEC:
                        continue
                    place = shimlib.Place()
                    try:
                        point = _point(name, scene, end, successor)
                        for n in range(1, options.most + 1):
                            runs += 1
                            if not _one(place, point, end, n, chance.choice(point.errors.split())):
                                break
                            made += 1
                    except AssertionError as problem:
                        failures += 1
                        print(f"\nFAILED {name} call {n} of the {end}{' after exec' if successor else ''}, scene {scene}:\n"
                              f"{problem}", flush=True)
                    finally:
                        place.remove()
        print(f"{name}: {made} faults, {time.monotonic() - start:.0f} s", flush=True)
    print(f"{runs} runs, {failures} failed")
    return failures != 0


if __name__ == "__main__":
    sys.exit(main())
