"""A peer that writes random bytes over its segment, against victim.c: scripts/fuzz-peer and a slice of it in the tests."""

import subprocess
import tempfile
import time
from pathlib import Path

import shimlib
import snippetlib

HERE = Path(__file__).parent
LIMIT = 600  # seconds of a whole run; each round has a watchdog of its own


def run(rounds, seed, directory):
    """Serves `rounds` hostile connections; (exit status of the victim, of the peer, what both said)."""
    programs = [snippetlib.built(HERE / f"{name}.c", Path(directory) / name) for name in ("victim", "hostile")]
    path = str(Path(directory) / "s")
    shim = {"LD_PRELOAD": str(shimlib.library()), "KVOSHIM_PATHS": "*", "KVOSHIM_RING_SIZE": "4096"}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": shimlib.plain_env(**shim)}
    with subprocess.Popen([programs[0], path, str(seed), str(rounds)], **options) as victim:
        try:
            assert victim.stdout.readline() == "listening\n"
            with subprocess.Popen([programs[1], path, str(seed)], **options) as peer:
                try:
                    said = victim.communicate(timeout=LIMIT)[0] + peer.communicate(timeout=LIMIT)[0]
                finally:
                    peer.kill()
        finally:
            victim.kill()
    return victim.returncode, peer.returncode, said


def main(rounds="10000", seed=None):
    seed = int(time.time()) if seed is None else int(seed)
    print(f"{rounds} rounds, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="kvoshim-") as directory:
        victim, peer, said = run(int(rounds), seed, directory)
    print(said, end="")
    return victim or peer
