"""kvoshim ctl: commands to a running daemon."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

HELP = "give commands to a running daemon"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Gives a command to a daemon over its control channel; without COMMAND, asks for commands. "
        "`kvoshim ctl DAEMON list-commands verbose=true` tells what there is. Exit codes: the answer's result "
        "(0 done, 1 error, 2 no such command, 3 empty, 4 conflict, 5 partly applied); 1 also if no daemon answers."
    )
    parser.add_argument("daemon", metavar="DAEMON", help="its name, or the path of its control socket")
    parser.add_argument("name", metavar="COMMAND", nargs="?", help="such as status-get")
    parser.add_argument(
        "arguments",
        metavar="ARGUMENT",
        nargs="*",
        help="NAME=VALUE (JSON, else text); or one JSON object, @FILE with one (- for standard input)",
    )
    parser.add_argument("--json", action="store_true", help="print the whole answer as JSON, one line")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="S", help="for an answer (default: 30)")


def path_of(daemon: str) -> str:
    """The control socket of a daemon of this user."""
    if "/" in daemon:
        return daemon
    if daemon == "controller":
        from kvoshim.kvo import finding, paths

        return paths.control_path(finding.controller(*paths.place()))
    if daemon in ("configd", "startd"):
        from kvoshim.services.configd import place

        return place.beside(place.repository_directory(), f"{daemon}.ctl")
    from kvoshim.directories import private_directory

    return os.path.join(private_directory(), f"{daemon}.ctl")


def _arguments(words: list[str]) -> Any:
    """What a command line's words stand for. ConfigurationError, ValueError."""
    from kvoshim.process import jsontext

    if not words:
        return None
    if len(words) == 1 and words[0].startswith("@"):
        if words[0] == "@-":
            return jsontext.parse(jsontext.decode(sys.stdin.buffer.read(), "standard input"), "standard input").value
        return jsontext.read(words[0][1:]).value
    if len(words) == 1 and words[0].lstrip().startswith("{"):
        return jsontext.parse(words[0], "argument").value
    found = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"{word!r} is neither NAME=VALUE nor a JSON object nor @FILE")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def run(args: argparse.Namespace) -> int:
    from kvoshim.process.client import ControlClient

    with ControlClient(path_of(args.daemon), args.timeout) as client:
        if args.name is None:
            return _converse(client, args.json)
        try:
            arguments = _arguments(args.arguments)
        except ValueError as error:
            print(f"kvoshim ctl: {error}", file=sys.stderr)
            return 2
        return _ask(client, args.name, arguments, args.json)


def _ask(client, name: str, arguments: Any, as_json: bool) -> int:
    answer = client.ask(name, arguments)
    if as_json:
        print(json.dumps({"result": answer.result, "text": answer.text, "arguments": answer.arguments}, ensure_ascii=False))
        return answer.result
    if answer.text:
        print(_printable(answer.text), file=sys.stderr if answer.result else sys.stdout)
    if answer.arguments is not None:
        print(json.dumps(answer.arguments, indent=2, ensure_ascii=False))
    return answer.result


def _printable(text: str) -> str:
    """A daemon's text may quote what others wrote: no control sequence reaches the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


# --- by hand ---------------------------------------------


def _converse(client, as_json: bool) -> int:
    """Commands from standard input, a line each, until its end; returns the last one's result."""
    import shlex

    from kvoshim.errors import ControlUnavailableError

    names = client.call("list-commands")
    prompt = _prompt(client, names) if sys.stdin.isatty() else ""
    result = 0
    while True:
        try:
            line = input(prompt)
        except EOFError:
            return result
        try:
            name, _, rest = line.strip().partition(" ")
            if not name:
                continue
            if name in ("quit", "exit"):
                return result
            if name == "help":
                _help(client, rest.strip())
                continue
            arguments = _arguments([rest] if rest.lstrip().startswith(("{", "@")) else shlex.split(rest))
            result = _ask(client, name, arguments, as_json)
        except ControlUnavailableError:
            raise
        except ValueError as error:
            print(error, file=sys.stderr)
            result = 2


def _prompt(client, names: list[str]) -> str:
    try:
        import readline
    except ImportError:
        pass
    else:
        words = [*names, "help", "quit"]
        readline.set_completer(lambda text, n: [*(w for w in words if w.startswith(text)), None][n])
        readline.set_completer_delims(" ")
        readline.parse_and_bind("tab: complete")
    print(f"{client.path}: {len(names)} commands; help [COMMAND], quit")
    return "> "


def _help(client, name: str) -> None:
    for record in client.call("list-commands", {"verbose": True}):
        if name and record["name"] != name:
            continue
        takes = " ".join(
            f"{one['name']}={one['type']}" if one["required"] else f"[{one['name']}={one['type']}]"
            for one in record["arguments"]
        )
        print(_printable(f"{record['name']} {takes}".rstrip()))
        print(_printable(f"    {record['brief']} Access: {record['access']}. Gives {record['returns']}."))
