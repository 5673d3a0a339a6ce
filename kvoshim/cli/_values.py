"""How the commands about values read them from the command line and show them."""

from __future__ import annotations

import argparse
import base64
import datetime
import json
from typing import Any


def add_controller(parser: argparse.ArgumentParser) -> None:
    """The options of every command that talks to a controller."""
    parser.add_argument(
        "--controller",
        metavar="PATH",
        help="the controller's socket (default: KVOSHIM_CONTROLLER, else your own controller's)",
    )
    parser.add_argument(
        "--no-autostart",
        dest="autostart",
        action="store_false",
        help="fail if no controller runs instead of starting one",
    )


def target(text: str) -> str | int:
    """A name, or a PID if it is all digits and begins with 'pid:'."""
    digits = text.removeprefix("pid:")
    return int(digits) if digits != text and digits.isdecimal() else text


def parse(text: str) -> Any:
    """The JSON value that the text is, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def jsonable(value: Any) -> Any:
    """What JSON cannot carry becomes an object that says what it is: {"bytes": base64}, {"datetime": ISO
    8601}, {"array": type, "shape": […]}."""
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, datetime.datetime):
        return {"datetime": value.isoformat()}
    if hasattr(value, "dtype"):  # a NumPy array
        return {"array": str(value.dtype), "shape": list(value.shape)}
    if isinstance(value, list):
        return [jsonable(item) for item in value]
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): jsonable(item) for key, item in value.items()}
    return value


def show(value: Any) -> str:
    """One line for people: strings as they are, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(jsonable(value), ensure_ascii=False)
