"""Downloads of the pictures that papers train and score on, from their owners' servers.

An archive comes into a .part file, which the next call continues (HTTP Range). Its
SHA-256 is compared, then it is unpacked into a temporary folder, which is renamed.
"""

import hashlib
import shutil
import tempfile
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request, urlopen

from tqdm import tqdm

from asr_course.errors import UserError


class Archive(NamedTuple):
    """One file on a server."""

    url: str
    sha256: str
    inside: str  # the folder in the archive that holds the pictures
    to: str  # the folder that it becomes

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


SHA256 = {
    "X4": "a50a5d1c4b88de4e8d300d8fb2b904c52fe93b2b298a4899697760d7cbb6d553",
    "X3": "04b9a2ed3b4a0715d3924d3ae8514830c3328fac8d30512ce716d6f419e052a3",
    "X2": "60eed9875c697df51204aa579e2a699e1d5215095788a097ff54dd17e2664d57",
    "HR": "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc",
    "train": "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335",
    "benchmark": "80c21c333bbf6ceb5308b7243761f8284478274413a97b96f1d63e9045fd93e8",
}


def div2k(key: str, inside: str, to: str) -> Archive:
    """One of DIV2K's .zip files, which are named after the folder in them."""
    url = "https://data.vision.ee.ethz.ch/cvl/DIV2K/" + inside.replace("/", "_")
    return Archive(f"{url}.zip", SHA256[key], inside, to)


# HR comes last: until it is there, DIV2K_valid is not taken for a set without LR files.
VALID = (
    div2k("X4", "DIV2K_valid_LR_bicubic/X4", "DIV2K_valid/LR_bicubic/X4"),
    div2k("X3", "DIV2K_valid_LR_bicubic/X3", "DIV2K_valid/LR_bicubic/X3"),
    div2k("X2", "DIV2K_valid_LR_bicubic/X2", "DIV2K_valid/LR_bicubic/X2"),
    div2k("HR", "DIV2K_valid_HR", "DIV2K_valid/HR"),
)
TRAIN = div2k("train", "DIV2K_train_HR", "DIV2K_train")
EDSR = "https://cv.snu.ac.kr/research/EDSR/benchmark.tar"
BENCHMARK = Archive(EDSR, SHA256["benchmark"], "benchmark", "benchmark")
SETS = {"div2k": (*VALID, TRAIN), "div2k-valid": VALID, "benchmark": (BENCHMARK,)}


def download(archives: tuple[Archive, ...], folder: str | Path) -> None:
    """Bring archives into `folder`, unpacked; folders that are there are left alone.

    A file of an archive's name in `folder` is taken in place of a transfer. UserError
    if a transfer fails or the SHA-256 is wrong. What has arrived is kept for the next
    call, also when the disk is full.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for archive in archives:
        target = folder / archive.to
        if target.exists():
            print(f"{target}: already there", flush=True)
            continue
        part, file = folder / f"{archive.name}.part", folder / archive.name
        if not file.exists():
            transfer(archive, part)
            file = part
        with open(file, "rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if digest != archive.sha256:
            part.unlink(missing_ok=True)
            why = f"{digest}, not {archive.sha256}; get it again"
            raise UserError(f"{file} has the SHA-256 {why}")
        kind = archive.name.rpartition(".")[2]
        safe = {"filter": "data"} if kind == "tar" else {}  # a zip holds no links
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as fresh:
            shutil.unpack_archive(file, fresh, kind, **safe)
            target.parent.mkdir(parents=True, exist_ok=True)
            Path(fresh, archive.inside).rename(target)
        part.unlink(missing_ok=True)
        print(f"{target}: SHA-256 as published", flush=True)


def transfer(archive: Archive, part: Path) -> None:
    """Bring an archive into a .part file, continuing the file that is there."""
    have = part.stat().st_size if part.exists() else 0
    request = Request(archive.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urlopen(request, timeout=30) as response:
            first = have if response.status == 206 else 0  # 206: it continues the part
            total = first + int(response.headers.get("Content-Length", 0))
            shown = {"unit": "B", "unit_scale": True, "disable": None}
            bar = tqdm(total=total, initial=first, **shown)
            with open(part, "ab" if first else "wb") as file, bar:
                while block := response.read(2**16):
                    bar.update(file.write(block))
        if part.stat().st_size < total:
            raise HTTPException("the connection broke off")
    except (OSError, HTTPException) as error:
        if getattr(error, "code", None) == 416:  # no byte is missing from the part
            return
        raise UserError(
            f"cannot download {archive.url}: {error}; repeat the command to continue, "
            f"or get {archive.name} elsewhere and put it into {part.parent}"
        ) from None
