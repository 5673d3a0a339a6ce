"""kvoshim svc: services, for people and scripts."""

from __future__ import annotations

import argparse

HELP = "look after services: start, stop, explain, plan"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Speaks to the repository (configd) and the restarter (startd) of services. `kvoshim svc up DIR` starts both and imports "
        "manifests. A TARGET is SERVICE or SERVICE:INSTANCE. Exit codes: 0 done, 1 refused or failed, 3 it did not get there in time."
    )
    parser.add_argument("--directory", default="", metavar="DIR", help="of the repository (default: KVOSHIM_SERVICES, else your own)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, text: str, *targets: str) -> argparse.ArgumentParser:
        one = verbs.add_parser(name, help=text, description=text)
        for target in targets:
            if target.endswith("?") or target.endswith("*"):
                one.add_argument(target[:-1].lower(), metavar=target[:-1], nargs=target[-1])
            else:
                one.add_argument(target.lower(), metavar=target)
        return one

    def waits(one: argparse.ArgumentParser) -> None:
        one.add_argument("--wait", type=float, default=0.0, metavar="S", help="wait so long until it is there")

    up = verb("up", "start everything that keeps services alive, and import manifests", "PATH*")
    up.add_argument("--shipped", action="store_true", help="import the manifests of the observation controller and the registry, too")
    up.add_argument("--wait", type=float, default=60.0, metavar="S", help="until all that is enabled is up (default: 60; 0: do not)")
    down = verb("down", "stop all services in order, and what keeps them alive")
    down.add_argument("--wait", type=float, default=60.0, metavar="S", help="for all to be stopped (default: 60)")
    verb("list", "which services there are, and what they do").add_argument("--faults", action="store_true", help="only what is wrong")
    verb("status", "all about a service", "TARGET")
    for name, text in (("enable", "have it run, for good"), ("disable", "have it not run, for good")):
        one = verb(name, text, "TARGET")
        one.add_argument("--temporary", action="store_true", help="until the next boot only")
        waits(one)
    for name, text in (
        ("start", "have it run until the next boot, and clear what was wrong"),
        ("stop", "have it not run until the next boot"),
        ("restart", "stop it and start it again"),
        ("refresh", "put its edited configuration in force"),
        ("clear", "say that what was wrong with it is right"),
    ):
        waits(verb(name, text, "TARGET"))
    mark = verb("mark", "put it into maintenance, or call it degraded", "TARGET")
    mark.add_argument("state", choices=("maintenance", "degraded"))
    mark.add_argument("reason", nargs="?", default="")
    log = verb("log", "what it has printed", "TARGET")
    log.add_argument("-n", "--lines", type=int, default=20, metavar="N", help="the last N lines (default: 20)")
    log.add_argument("-f", "--follow", action="store_true", help="and what comes")
    verb("explain", "why it does not run: root cause, since when, the way there; without TARGET, all that is wrong", "TARGET?")
    load = verb("import", "take in manifests", "PATH*")
    load.add_argument("--check", action="store_true", help="only tell whether they are valid")
    export = verb("export", "print services as manifests", "SERVICE*")
    export.add_argument("--layer", default="", help="manifest, profile or admin only")
    set_ = verb("set", "edit a property; in force after a refresh", "TARGET")
    set_.add_argument("property", metavar="GROUP/NAME")
    set_.add_argument("value", metavar="VALUE", help="JSON, else text")
    snapshot = verb("snapshot", "keep the configuration in force under a name; without NAME, list what is kept", "TARGET", "NAME?")
    snapshot.add_argument("--drop", action="store_true", help="no longer keep it")
    revert = verb("revert", "go back to a snapshot", "TARGET")
    revert.add_argument("name", metavar="NAME", nargs="?", default="previous")
    revert.add_argument("--refresh", action="store_true", help="and put it in force")
    plan = verb("plan", "what a change would start, stop, refresh and restart, without doing it")
    plan.add_argument("change", choices=("refresh", "import", "enable", "disable", "revert"))
    plan.add_argument("what", metavar="TARGET|PATH", nargs="*", help="for refresh: none means all that are edited")


def run(args: argparse.Namespace) -> int:
    from kvoshim.cli import _svc
    from kvoshim.services.configd import place

    args.directory = place.repository_directory(args.directory)
    return _svc.VERBS[args.verb](args)
