"""Errors for what people type: what was wrong, what was expected, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """The input is wrong, not the program. The message says what to do."""


class Stopped(KeyboardInterrupt):
    """An interrupt that ended a training in order; Jupyter shows its message alone."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def choose(what: str, value, allowed: Iterable[str], or_else: str = "") -> str:
    """Return `value` if it is one of `allowed`; else UserError with the nearest one.

    or_else: words for what else is allowed.
    """
    allowed = list(allowed)
    if value in allowed:
        return value
    close = get_close_matches(str(value), allowed, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UserError(
        f"unknown {what} {value!r}: choose from {', '.join(allowed)}{or_else}.{hint}"
    )
