"""The package's voice: short lines a user should see, through one standard logger."""

import logging
import sys

logger = logging.getLogger("keras_genai")


class _Stdout(logging.StreamHandler):
    """Writes to whatever `sys.stdout` is at the time, so that notebooks and tests capture it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stdout
        super().emit(record)


if not logger.handlers:
    logger.addHandler(_Stdout(sys.stdout))
    logger.setLevel(logging.INFO)
    logger.propagate = False


def say(message: str) -> None:
    """Prints one line; silenced with `logging.getLogger("keras_genai").setLevel("WARNING")`."""
    logger.info(message)


def warn(message: str) -> None:
    """Prints one line that asks for attention."""
    logger.warning("Warning: %s", message)
