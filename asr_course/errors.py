"""Errors a person can act on: what was wrong, what was expected, what to do."""

import errno
import re
from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """The input is at fault, not the program; its message is written to be read."""


def choose(what: str, given, allowed: Iterable[str], or_else: str = "") -> str:
    """Return `given` if it is one of `allowed`; else say what is, nearest first.

    or_else: words for what else would do.
    """
    allowed = list(allowed)
    if given in allowed:
        return given
    close = get_close_matches(str(given), allowed, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UserError(
        f"unknown {what} {given!r}: choose from {', '.join(allowed)}{or_else}.{hint}"
    )


REASONS = {
    errno.ENOSPC: "the disk is full; make room, or choose a place on another disk",
    errno.EDQUOT: "your share of the disk is full; make room, or choose another disk",
    errno.EFBIG: "the file would be larger than this disk allows; choose another disk",
    errno.EROFS: "this disk can only be read; choose a place on another one",
    errno.EACCES: "permission denied; choose another place, or change its permissions",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ENOTDIR: "a part of this name is a file, not a folder; choose another place",
}
REASONS[errno.EPERM] = REASONS[errno.EACCES]


def reason(error: BaseException | None) -> str | None:
    """Why the system refused, and what to do; None if `error` does not say.

    Libraries wrap what the system told them: safetensors puts the number into its
    message, torch loses it, and its streams fail on nothing but a full disk.
    """
    while error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        number = int(found[1]) if found else getattr(error, "errno", None)
        if "iostream error" in str(error):
            number = errno.ENOSPC
        if number in REASONS:
            return REASONS[number]
        error = error.__cause__ or error.__context__
    return None
