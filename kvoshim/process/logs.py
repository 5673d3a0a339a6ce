"""The daemon's log: where it goes, and that no secret gets into it.

The project's own loggers (below "kvoshim") and those that a daemon uses below its own name go to one handler. Its
formatter is the last to see a line, so a secret is masked wherever it came from: a message, an argument, a
traceback.
"""

from __future__ import annotations

import logging
import logging.handlers
import os

from kvoshim.errors import ConfigurationError
from kvoshim.process.model import Logging
from kvoshim.process.redaction import Cleaner

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_FORMAT = "%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s"


class _Formatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__(_FORMAT)
        self.clean = Cleaner()

    def format(self, record: logging.LogRecord) -> str:
        return self.clean(super().format(record))


class Log:
    """names: the loggers whose lines it takes. foreground: lines go to standard error unless a file is named."""

    def __init__(self, names: tuple[str, ...], foreground: bool) -> None:
        self._loggers = [logging.getLogger(name) for name in names]
        self._foreground = foreground
        self._formatter = _Formatter()
        self._before = [(logger.level, logger.propagate) for logger in self._loggers]
        self._handler: logging.Handler | None = None
        self._always: list = []
        self._secrets: list = []

    def _open(self, file: str) -> logging.Handler:
        chosen = file or os.environ.get("KVOSHIM_LOG_FILE", "")
        problem = ""
        if chosen and chosen not in ("-", "stderr"):
            try:
                return logging.handlers.WatchedFileHandler(chosen, encoding="utf-8", errors="backslashreplace")
            except OSError as error:
                problem = f"the log file {chosen} cannot be opened: {error.strerror}"
                if file:
                    raise ConfigurationError(problem) from None
        handler = logging.StreamHandler() if self._foreground else logging.NullHandler()
        if problem:  # the variable is for all programs of a user: one that cannot write there runs all the same
            handler.handle(logging.LogRecord("kvoshim.process", logging.WARNING, __file__, 0, problem, (), None))
        return handler

    def configure(self, settings: Logging) -> None:
        """Changes level and place. ConfigurationError; all stays as it was then."""
        handler = self._open(settings.file)
        handler.setFormatter(self._formatter)
        level = settings.level or os.environ.get("KVOSHIM_LOG", "").lower()
        for logger in self._loggers:
            logger.setLevel(_LEVELS.get(level, logging.INFO))
            logger.propagate = False
            logger.addHandler(handler)
            if self._handler is not None:
                logger.removeHandler(self._handler)
        if self._handler is not None:
            self._handler.close()
        self._handler = handler

    def mask(self, secrets: list) -> None:
        """Masks these in every line from now on."""
        self._formatter.clean = Cleaner([*self._always, *secrets])
        self._secrets = secrets

    def mask_always(self, secrets: list) -> None:
        """Masks these, too, whatever the configuration says: they come from elsewhere."""
        self._always += secrets
        self.mask(self._secrets)

    def clean(self, text: str) -> str:
        """A text as the log would show it."""
        return self._formatter.clean(text)

    def close(self) -> None:
        """The loggers are again what they were."""
        if self._handler is None:
            return
        for logger, (level, propagate) in zip(self._loggers, self._before, strict=True):
            logger.removeHandler(self._handler)
            logger.setLevel(level)
            logger.propagate = propagate
        self._handler.close()
        self._handler = None
