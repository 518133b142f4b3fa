"""Downloads: the pictures that papers train and score on, from their owners' servers.

Three steps, and each ends in something whole or in nothing. `transfer` brings an
archive into a .part file and goes on where it broke off; `verify` and `unpack`, of
`asr_course.archives`, check it and take the pictures out.

One process at a time downloads into a folder: a lock in it keeps others out.
"""

import re
import shutil
import time
from collections.abc import Sequence
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from filelock import FileLock, Timeout
from tqdm import tqdm

from asr_course.archives import (
    UNPACKING,
    Archive,
    BadArchive,
    Tell,
    check_space,
    held,
    is_there,
    unpack,
    verify,
)
from asr_course.errors import UserError, reason
from asr_course.images import check_folder

CHUNK = 2**16  # bytes that are read at once
TRIES = 5  # in a row that brought nothing new
PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers that another try may better
LOCK = ".download.lock"
WEB_PAGE = "a web page comes instead of an archive"


class DataSet(NamedTuple):
    """Archives in the order in which they are fetched, and what to type afterwards."""

    archives: tuple[Archive, ...]
    uses: tuple[str, ...]  # "{}" is the folder


DIV2K = "https://data.vision.ee.ethz.ch/cvl/DIV2K/"
# HR last: until it is there, DIV2K_valid cannot be taken for a set without LR files.
VALID = (
    Archive(
        DIV2K + "DIV2K_valid_LR_bicubic_X4.zip",
        31_505_881,
        "a50a5d1c4b88de4e8d300d8fb2b904c52fe93b2b298a4899697760d7cbb6d553",
        "DIV2K_valid_LR_bicubic/X4",
        "DIV2K_valid/LR_bicubic/X4",
    ),
    Archive(
        DIV2K + "DIV2K_valid_LR_bicubic_X3.zip",
        54_513_392,
        "04b9a2ed3b4a0715d3924d3ae8514830c3328fac8d30512ce716d6f419e052a3",
        "DIV2K_valid_LR_bicubic/X3",
        "DIV2K_valid/LR_bicubic/X3",
    ),
    Archive(
        DIV2K + "DIV2K_valid_LR_bicubic_X2.zip",
        117_763_600,
        "60eed9875c697df51204aa579e2a699e1d5215095788a097ff54dd17e2664d57",
        "DIV2K_valid_LR_bicubic/X2",
        "DIV2K_valid/LR_bicubic/X2",
    ),
    Archive(
        DIV2K + "DIV2K_valid_HR.zip",
        448_993_893,
        "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc",
        "DIV2K_valid_HR",
        "DIV2K_valid/HR",
    ),
)
TRAIN = Archive(
    DIV2K + "DIV2K_train_HR.zip",
    3_530_603_713,
    "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335",
    "DIV2K_train_HR",
    "DIV2K_train",
)
BENCHMARK = Archive(
    "https://cv.snu.ac.kr/research/EDSR/benchmark.tar",
    250_112_000,
    "80c21c333bbf6ceb5308b7243761f8284478274413a97b96f1d63e9045fd93e8",
    "benchmark",
    "benchmark",
)
SCORE = "python -m asr_course evaluate --model liif --data "
SETS = {
    "div2k": DataSet(
        (*VALID, TRAIN),
        (
            "python -m asr_course train --model liif --preset gpu "
            "--data {}/DIV2K_train --out runs/div2k",
            SCORE + "{}/DIV2K_valid",
        ),
    ),
    "div2k-valid": DataSet(VALID, (SCORE + "{}/DIV2K_valid",)),
    "benchmark": DataSet(
        (BENCHMARK,),
        (
            SCORE + "{0}/benchmark/Set5 {0}/benchmark/Set14 {0}/benchmark/B100 "
            "{0}/benchmark/Urban100",
        ),
    ),
}


class Dropped(Exception):
    """A transfer that broke off, or began at the wrong place: worth another try."""


def download(
    archives: Sequence[Archive],
    folder: str | Path,
    pause: float = 2.0,
    timeout: float = 30.0,
    tell: Tell = print,
) -> None:
    """Bring archives into `folder`, unpacked; what is there already is left alone.

    pause: seconds before another try, more after each failure. timeout: seconds without
    a byte. tell: gets a line for every archive. UserError if anything is wrong; what
    has arrived then waits for the next call, unless it is at fault itself.
    """
    folder = Path(folder)
    check_folder(folder)
    for archive in archives:
        check_address(archive.url)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            for left_over in folder.glob(UNPACKING + "*"):  # a process was killed
                shutil.rmtree(left_over)
            missing = [a for a in archives if not is_there(a, folder, tell)]
            check_space(folder, space_for(missing, folder))
            for archive in archives:
                if archive in missing:
                    fetch(archive, folder, pause, timeout, tell)
                forget(part_of(archive, folder))
    except Timeout:
        raise UserError(
            f"another process downloads into {folder}: let it finish, stop it, or "
            "choose another place with --to"
        ) from None


def fetch(
    archive: Archive, folder: Path, pause: float, timeout: float, tell: Tell
) -> None:
    """Transfer one archive, verify it and unpack it.

    An archive of this name that somebody put into the folder is taken instead.
    """
    by_hand, part = folder / archive.name, part_of(archive, folder)
    file = by_hand if by_hand.exists() else part
    size = tqdm.format_sizeof(archive.size, "B")
    tell(f"{archive.name}: {size}, to {folder / archive.to}")
    try:
        if file == part:
            transfer(archive, part, pause, timeout, tell)
        seen = verify(file, archive)
        count = unpack(file, archive, folder, seen)
    except BadArchive as error:
        if file == by_hand:
            raise UserError(f"{file} {error}; replace it, or delete it") from None
        forget(part)
        raise UserError(
            f"{archive.url} {error}; it is removed: repeat the command; if that does "
            f"not help, {elsewhere(archive, folder)}"
        ) from None
    known = "as published" if archive.sha256 else "of which nothing is published"
    tell(f"{folder / archive.to}: {count} files, SHA-256 {seen}, {known}")


def elsewhere(archive: Archive, folder: Path) -> str:
    """What a person can do when a server is of no use."""
    return (
        f"get {archive.name} ({archive.size} bytes) elsewhere, put it into {folder} "
        "and repeat the command, which will check and unpack it"
    )


# What has arrived, and room for the rest


def part_of(archive: Archive, folder: Path) -> Path:
    """Where what has arrived of an archive is kept, for the next call too."""
    return folder / f"{archive.name}.part"


def mark_file(part: Path) -> Path:
    """Where the server's mark of a part's version (ETag, Last-Modified) is kept."""
    return part.with_name(f"{part.name}.mark")


def read_mark(part: Path) -> str:
    """The mark of a part, "" if it has none that may be sent back."""
    mark = mark_file(part).read_text("latin-1") if mark_file(part).exists() else ""
    return mark if mark.isascii() and mark.isprintable() else ""


def forget(part: Path) -> None:
    """Remove a .part file and its mark."""
    part.unlink(missing_ok=True)
    mark_file(part).unlink(missing_ok=True)


def space_for(archives: Sequence[Archive], folder: Path) -> int:
    """Bytes that archives take: what they hold, and the largest of them beside it."""
    to_come = [
        a.size - held(part_of(a, folder))
        for a in archives
        if not (folder / a.name).exists()
    ]
    return sum(a.size for a in archives) + max(to_come, default=0)


# Transfer


class Redirects(HTTPRedirectHandler):
    """Follows a few redirects, to http(s) addresses only."""

    max_redirections = 5

    def redirect_request(self, request, file, code, message, headers, url):
        check_address(url)
        return super().redirect_request(request, file, code, message, headers, url)


def check_address(url: str) -> None:
    """UserError unless an address begins with http:// or https://."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"{url} is refused: only http:// and https:// are downloaded")


def transfer(
    archive: Archive, part: Path, pause: float, timeout: float, tell: Tell
) -> None:
    """Bring an archive into a .part file, from wherever that one ends.

    Gives up after TRIES tries in a row that brought nothing new: UserError.
    """
    if held(part) > archive.size:
        forget(part)
    best, failures = held(part), 0
    while held(part) < archive.size:
        try:
            attempt(archive, part, timeout)
        except UserError:
            raise
        except (Dropped, HTTPException, OSError, ValueError) as error:
            why = why_failed(error, archive, part)
            failures = 0 if held(part) > best else failures + 1
            best = max(best, held(part))
            if failures == TRIES:
                raise UserError(dead(archive, part, why)) from None
            tell(f"{archive.name}: {why}; trying again")
            time.sleep(pause * max(1, failures))


def dead(archive: Archive, part: Path, why: str) -> str:
    """The words for an address from which nothing more comes."""
    kept = f"{held(part)} bytes of it are kept for then; " if held(part) else ""
    return (
        f"cannot download {archive.url}: {why}; look at your connection and try again "
        f"later; {kept}if the address is dead, {elsewhere(archive, part.parent)}"
    )


def why_failed(error: Exception, archive: Archive, part: Path) -> str:
    """Why a try failed, if another one may help; UserError if not."""
    if isinstance(error, HTTPError):
        error.close()
        why = f"the server answers {error.code} {error.reason}"
        if error.code == 416:  # it has no byte where our part ends
            forget(part)
        elif error.code in (301, 302, 303, 307, 308):
            why = "its redirects lead nowhere"
            raise UserError(dead(archive, part, why)) from None
        elif error.code not in PASSING:
            raise UserError(dead(archive, part, why)) from None
        return why
    disk = None if isinstance(error, URLError) else reason(error)
    if disk:
        raise UserError(f"cannot write {part}: {disk}") from None
    said = error.reason if isinstance(error, URLError) else error
    return str(said) or type(error).__name__


def attempt(archive: Archive, part: Path, timeout: float) -> None:
    """One connection: ask for what is missing, and append what comes.

    Dropped, or an error of the network or the disk, if that is not all of it.
    """
    have, mark, headers = held(part), read_mark(part), {"User-Agent": "asr_course"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if mark:  # else everything, if the file has changed
            headers["If-Range"] = mark
    opener = build_opener(Redirects)
    with opener.open(Request(archive.url, headers=headers), timeout=timeout) as answer:
        check_answer(answer, archive, part)
        if not begins_at(answer, have, mark):
            forget(part)
            raise Dropped("the server does not go on where the transfer broke off")
        receive(answer, archive, part)


def content_range(answer: HTTPResponse) -> tuple[int, int | None]:
    """The first byte of an answer and the length of the whole file.

    (0, None) if a server says nothing, (-1, None) if what it says is nonsense.
    """
    if answer.status != 206:
        total = answer.headers.get("Content-Length", "")
        return 0, int(total) if total.isdecimal() else None
    said = answer.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", said)
    if not found:
        return -1, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def check_answer(answer: HTTPResponse, archive: Archive, part: Path) -> None:
    """UserError if a server offers a web page, or a file of another length.

    Nothing is written before this, so that what has arrived earlier is safe.
    """
    if "html" in answer.headers.get_content_type():
        raise UserError(dead(archive, part, WEB_PAGE))
    _, total = content_range(answer)
    if total not in (None, archive.size):
        why = f"it offers {total} bytes where {archive.size} were expected"
        raise UserError(dead(archive, part, why))


def mark_of(answer: HTTPResponse) -> str:
    """What tells a version of a file from others: a strong ETag, or a date, or ""."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")


def begins_at(answer: HTTPResponse, have: int, mark: str) -> bool:
    """Whether an answer can be used: from the first byte, or from where a part ends."""
    first, _ = content_range(answer)
    same = mark_of(answer) in ("", mark) or not mark
    return answer.status != 206 or (first == have and same)


def receive(answer: HTTPResponse, archive: Archive, part: Path) -> None:
    """Append an answer to a .part file; anew if it begins at the first byte.

    Never more than the archive's size: UserError if more comes, Dropped if less.
    """
    got, _ = content_range(answer)
    block = answer.read(CHUNK)
    if got == 0 and block.lstrip().startswith(b"<"):
        raise UserError(dead(archive, part, WEB_PAGE))
    if not block:  # a part that is about to be written anew stays as it is
        raise Dropped(f"the connection broke off at {got} of {archive.size} bytes")
    bar = partial(tqdm, unit="B", unit_scale=True, disable=None, desc=archive.name)
    with (
        open(part, "ab" if got else "wb") as file,
        bar(total=archive.size, initial=got) as shown,
    ):
        if got == 0:
            mark_file(part).write_text(mark_of(answer), "latin-1")
        while block and got + len(block) <= archive.size:
            shown.update(file.write(block))
            got += len(block)
            block = answer.read(CHUNK)
    if block:
        forget(part)
        why = f"it sends more than the {archive.size} bytes that were expected"
        raise UserError(dead(archive, part, why))
    if got < archive.size:
        raise Dropped(f"the connection broke off at {got} of {archive.size} bytes")
