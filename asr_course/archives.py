"""Archives of pictures: checked, and unpacked whole or not at all.

Everything an archive holds is looked through before anything is written. Its files are
written into a folder of their own, which is renamed at the end.
"""

import hashlib
import json
import shutil
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple

from tqdm import tqdm

from asr_course.errors import UserError, reason

BLOCK = 4096  # bytes of the disk that the smallest file takes
GROWTH = 4  # how many times an archive may grow: pictures hardly shrink when packed
RECORD = "download.json"  # in every unpacked folder: where it comes from, what it holds
UNPACKING = ".unpacking-"

Tell = Callable[[str], None]


class Archive(NamedTuple):
    """One file on a server, what is known of it, and where its pictures go."""

    url: str
    size: int  # bytes
    sha256: str | None  # None if nobody has published it
    inside: str  # the folder in the archive that is wanted, without those around it
    to: str  # the folder that it becomes

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


class BadArchive(UserError):
    """An archive that is not what it should be, and must not be used."""


def held(path: Path) -> int:
    """Bytes of a file, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def is_there(archive: Archive, folder: Path, tell: Tell) -> bool:
    """Whether an archive's pictures are all there; UserError if only some of them are.

    Their names and sizes are compared with the record that was written beside them.
    """
    place = folder / archive.to
    if not place.exists():
        return False
    try:
        record = json.loads((place / RECORD).read_text())
        files, seen = dict(record["files"]), record["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{place} is there, but not from this command; move it away, or choose "
            "another place with --to"
        ) from None
    if archive.sha256 not in (None, seen):
        raise UserError(
            f"{place} comes from another {archive.name}; delete it and repeat the "
            "command"
        )
    missing = [name for name, size in files.items() if held(place / name) != size]
    if missing:
        raise UserError(
            f"{place} lacks {len(missing)} of {len(files)} files, or they changed, "
            f"such as {missing[0]}; delete it and repeat the command"
        )
    tell(f"{place}: already there, all {len(files)} files")
    return True


def check_space(folder: Path, needed: int) -> None:
    """UserError unless so many bytes are free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        needed, free = (tqdm.format_sizeof(n, "B") for n in (needed, free))
        raise UserError(
            f"no room in {folder}: {needed} are needed and {free} are free; make room, "
            "or choose a place on another disk with --to"
        )


def verify(file: Path, archive: Archive) -> str:
    """The SHA-256 of a file; BadArchive unless it and the length are as published."""
    if held(file) != archive.size:
        raise BadArchive(f"has {held(file)} bytes, not {archive.size}")
    with open(file, "rb") as opened:
        seen = hashlib.file_digest(opened, "sha256").hexdigest()
    if archive.sha256 not in (None, seen):
        raise BadArchive(f"has the SHA-256 {seen}, not {archive.sha256}")
    return seen


class Member(NamedTuple):
    """A file in an archive."""

    path: PurePosixPath
    size: int  # bytes
    open: Callable[[], IO[bytes]]


def unpack(file: Path, archive: Archive, folder: Path, seen: str) -> int:
    """Unpack into folder/archive.to, whole or not at all; the number of files.

    Only the bytes of files are taken: links, devices, owners and permissions of an
    archive never reach the disk. BadArchive if it holds anything else than plain files
    with harmless names, or is damaged. seen: its SHA-256, for the record.
    """
    place = folder / archive.to
    try:
        with (
            open_archive(file, archive.name) as box,
            tempfile.TemporaryDirectory(prefix=UNPACKING, dir=folder) as temporary,
        ):
            members = wanted(list_members(box), archive)
            check_space(folder, sum(on_disk(member) for member in members))
            fresh = Path(temporary) / "fresh"
            files = extract(members, archive.inside, fresh)
            record = {"url": archive.url, "sha256": seen, "files": files}
            (fresh / RECORD).write_text(json.dumps(record, indent=1) + "\n")
            place.parent.mkdir(parents=True, exist_ok=True)
            fresh.rename(place)
    except UserError:
        raise
    except Exception as error:  # broken archives raise errors of many kinds
        if disk := reason(error):
            raise UserError(f"cannot write {place}: {disk}") from None
        raise BadArchive(f"is damaged: {error}") from None
    return len(files)


def wanted(members: list[Member], archive: Archive) -> list[Member]:
    """Those in the folder that is wanted; BadArchive if any member at all is unsafe."""
    check_members(members, GROWTH * archive.size + 2**20)
    found = [m for m in members if m.path.is_relative_to(archive.inside)]
    if not found:
        raise BadArchive(f"holds no folder {archive.inside}")
    return found


def extract(members: list[Member], inside: str, place: Path) -> dict[str, int]:
    """Write files of the folder `inside` into a new one: {name: bytes}."""
    files = {}
    for member in tqdm(members, "unpacking", disable=None, leave=False):
        name = member.path.relative_to(inside)
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source, open(place / name, "xb") as target:
            shutil.copyfileobj(source, target)
        files[str(name)] = held(place / name)
    return files


def open_archive(file: Path, name: str) -> zipfile.ZipFile | tarfile.TarFile:
    """A .zip, or a .tar that is not compressed: its listing then takes little work."""
    return zipfile.ZipFile(file) if name.endswith(".zip") else tarfile.open(file, "r:")


def list_members(box: zipfile.ZipFile | tarfile.TarFile) -> list[Member]:
    """The files of an archive, without folders; BadArchive if it holds other things."""
    return zip_members(box) if isinstance(box, zipfile.ZipFile) else tar_members(box)


def zip_members(box: zipfile.ZipFile) -> list[Member]:
    """The files of a .zip."""
    members = []
    for info in box.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.is_dir():
            continue
        if kind not in (0, stat.S_IFREG):  # 0: packed on Windows
            raise BadArchive(f"holds {info.filename!r}, a link or a device")
        opened = partial(box.open, info)
        members.append(Member(safe_path(info.filename), info.file_size, opened))
    return members


def tar_members(box: tarfile.TarFile) -> list[Member]:
    """The files of a .tar."""
    members = []
    for info in box:
        if info.isdir():
            continue
        if not info.isreg():
            raise BadArchive(f"holds {info.name!r}, a link or a device")
        opened = partial(box.extractfile, info)
        members.append(Member(safe_path(info.name), info.size, opened))
    return members


def safe_path(name: str) -> PurePosixPath:
    """A member's name as a relative path without ".."; BadArchive if it is not one.

    Read as Windows reads it, which knows both slashes, and drives.
    """
    path = PureWindowsPath(name)
    if path.anchor or ".." in path.parts or ":" in name or not path.parts:
        raise BadArchive(f"holds {name!r}, which leads out of its folder")
    return PurePosixPath(*path.parts)


def on_disk(member: Member) -> int:
    """Bytes that a member takes, at least one block of the disk."""
    return max(member.size, BLOCK)


def check_members(members: list[Member], bound: int) -> None:
    """BadArchive if files take more than `bound` bytes, or get in each other's way.

    Names that differ only in case are one name on many disks.
    """
    total = sum(on_disk(member) for member in members)
    if total > bound:
        raise BadArchive(f"would take {total} bytes unpacked, more than {bound}")
    taken = {}
    for member in members:
        for path in (member.path, *member.path.parents):
            key = unicodedata.normalize("NFC", str(path)).casefold()
            is_file = path == member.path
            if key in taken and (is_file or taken[key] != (path, False)):
                raise BadArchive(f"holds two files that are both called {path}")
            taken[key] = (path, is_file)
