"""Errors a person can act on: what was wrong, what was expected, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """The input is at fault, not the program; its message is written to be read."""


def choose(what: str, given, allowed: Iterable[str]) -> str:
    """Return `given` if it is one of `allowed`; else say what is, nearest first."""
    allowed = list(allowed)
    if given in allowed:
        return given
    close = get_close_matches(str(given), allowed, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UserError(
        f"unknown {what} {given!r}: choose from {', '.join(allowed)}.{hint}"
    )
