"""The configuration in force, and the way to the next one.

    file or command -> Document -> prepare(): Context, nothing has changed yet -> install(): applied, or taken back
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic

from kvoshim.errors import ConfigurationError, KvoshimError, PartlyAppliedError
from kvoshim.process import jsontext, model
from kvoshim.process.redaction import MASK, Redactor

log = logging.getLogger("kvoshim.process")


@dataclass(frozen=True)
class Context(Generic[model.Model]):
    """A configuration as a whole. document: as it was given, with the sections of other modules."""

    settings: model.Model
    document: dict[str, Any]
    source: str
    hash: str
    since: float = field(default_factory=time.time)


Check = Callable[[Context], None]
Apply = Callable[[Context, Context], None]


class ConfigurationManager(Generic[model.Model]):
    """Owns the context. check: refuses what the model cannot know of, and has no effects. apply(new, old): puts a
    context in force; after a failure it is called with the two exchanged."""

    def __init__(
        self, module: str, kind: type[model.Model], path: str, redactor: Redactor, check: Check, apply: Apply
    ) -> None:
        self.module = module
        self.path = os.path.abspath(path) if path else ""
        self.proposed: Context[model.Model] | None = None  # at the launch, until the process runs by it
        self.current: Context[model.Model] | None = None
        self.failure = ""  # why the latest new configuration is not in force
        self._kind = kind
        self._redactor = redactor
        self._check = check
        self._apply = apply

    def read(self) -> Context[model.Model]:
        """The file's context; without a file, that of the defaults. ConfigurationError."""
        document = jsontext.read(self.path) if self.path else jsontext.Document("(no file)", {self.module: {}})
        return self.prepare(document, self.path or "defaults")

    def prepare(self, document: jsontext.Document, source: str) -> Context[model.Model]:
        """A checked context. ConfigurationError."""
        settings = model.convert(document, self.module, self._kind)
        section = model.plain(settings)
        if any(value == MASK for value in self._redactor.secrets(section)):
            raise ConfigurationError(f"a secret is {MASK}: this configuration was redacted and is not to be put in force")
        context = Context(settings, document.value, source, model.hash_of(section))
        self._guard(lambda: self._check(context))
        return context

    def propose(self, prepare: Callable[[], Context[model.Model]]) -> None:
        """The first context: the launch puts it in force, step by step, and then says accept(). ConfigurationError."""
        self.proposed = prepare()

    def accept(self) -> None:
        self._in_force(self.proposed)

    def install(self, context: Context[model.Model]) -> None:
        """Puts a context in force. ConfigurationError: the one before is in force still; PartlyAppliedError: it
        could not be brought back either."""
        old = self.current
        try:
            self._guard(lambda: self._apply(context, old))
        except ConfigurationError as error:
            try:
                self._guard(lambda: self._apply(old, context))
            except ConfigurationError as again:
                raise PartlyAppliedError(f"{error}; and the one before could not be applied again: {again}") from error
            raise
        self._in_force(context)

    def _in_force(self, context: Context[model.Model]) -> None:
        self.current = context
        self.failure = ""
        log.info("configuration from %s is in force: %s", context.source, self.shown())

    def change(self, prepare: Callable[[], Context[model.Model]]) -> Context[model.Model]:
        """prepare() and install(), with a failure on record. ConfigurationError."""
        try:
            context = prepare()
            self.install(context)
            return context
        except ConfigurationError as error:
            self.failure = str(error)
            raise

    @staticmethod
    def _guard(action: Callable[[], None]) -> None:
        """The daemon's own code may raise what it likes: it stays an error of the configuration."""
        try:
            action()
        except ConfigurationError:
            raise
        except (KvoshimError, OSError, ValueError) as error:
            raise ConfigurationError(str(error)) from error
        except Exception as error:
            log.exception("a configuration could not be checked or applied")
            raise ConfigurationError(f"{type(error).__name__}: {error}") from error

    def shown(self, *, whole: bool = False) -> dict[str, Any]:
        """{module: section} of the configuration in force, with secrets only if `whole`."""
        section = model.plain(self.current.settings)
        return {self.module: section if whole else self._redactor.redact(section)}

    def hash(self, *, whole: bool = False) -> str:
        """Its hash; not `whole`: of what shown() gives, for a hash of all would tell whether a guessed secret is right."""
        return self.current.hash if whole else model.hash_of(self.shown()[self.module])

    def write(self, name: str) -> str:
        """Writes the configuration in force to a file beside the one that was read (default: that one), in one
        step; returns its path. ConfigurationError."""
        if not self.path:
            raise ConfigurationError("this daemon was started without a configuration file: there is no place to write to")
        directory, own = os.path.split(self.path)
        name = name or own
        if os.path.basename(name) != name or not name.endswith((".json", ".conf")) and name != own:
            raise ConfigurationError(f"a configuration is only written to {directory}, to a file .json or .conf")
        path = os.path.join(directory, name)
        text = json.dumps(self.current.document, indent=2, ensure_ascii=False) + "\n"
        temporary = f"{path}.{secrets.token_hex(4)}"
        try:
            mode = os.stat(path).st_mode & 0o7777 if os.path.exists(path) else 0o600
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with open(fd, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fchmod(fd, mode)
                    os.fsync(fd)
                os.rename(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
        return path
