"""memcached on a Unix socket, as a user of its own."""

from conformance.obtain import program
from conformance.scenes.scene import World, run_as

PACKAGES = {"memcached": "memcached", "setpriv": "util-linux"}


def memcached(world: World) -> None:
    """memcached with clients that speak its text and its binary protocol."""
    path = world.new_dir("m") / "memcached.sock"
    cmd = [*run_as("nobody"), program("memcached"), "-s", path, "-a", "777", "-m", "64", "-I", "8m", "-t", "2", "-U", "0"]
    with world.serve(cmd) as server:
        server.wait_until(path.exists)
        world.script("memcached_client", path)
        world.opened(path, 24)
    world.step("memcached ended with", server.process.returncode)


SCENES = [(memcached, 24, True)]
