"""Downloads from a faulty server: a good folder at the end, or a clear error."""

import errno
import hashlib
import io
import os
import re
import tarfile
import threading
import zipfile
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from helpers import ROOT, picture
from PIL import Image

from asr_course.__main__ import main
from asr_course.data import Folder
from asr_course.download import SETS, Archive, download
from asr_course.errors import UserError
from asr_course.metrics import Benchmark

RNG = np.random.default_rng(0)
FILES = {"a.png": RNG.bytes(150_000), "more/b.png": RNG.bytes(100_000)}


def zip_of(files: dict, inside: str = "inside/") -> bytes:
    """A .zip of {name: bytes}."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as box:
        for name, content in files.items():
            box.writestr(zipfile.ZipInfo(inside + name), content)
    return packed.getvalue()


def tar_of(files: dict, inside: str = "inside/") -> bytes:
    """A .tar of {name: bytes}."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as box:
        for name, content in files.items():
            info = tarfile.TarInfo(inside + name)
            info.size = len(content)
            box.addfile(info, io.BytesIO(content))
    return packed.getvalue()


BODY = zip_of(FILES)
HALF = len(BODY) // 2


class Handler(BaseHTTPRequestHandler):
    """Answers by one page after the other; the last one for ever."""

    def do_GET(self):
        pages, asked = self.server.pages[self.path], self.headers.get("Range")
        self.server.asked.append(asked)
        page = pages.pop(0) if len(pages) > 1 else pages[0]
        body, stop = page.get("body", BODY), page.get("stop")
        first = int(asked[6:-1]) if asked and page.get("ranges", True) else 0
        code = 416 if first >= len(body) else 206 if first else 200
        self.send_response(page.get("code", code))
        self.send_header("Content-Type", page.get("kind", "application/zip"))
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        if code != 416:
            self.wfile.write(body[first:][:stop])

    def log_message(self, *words):
        pass


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.pages, server.asked = {}, []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def archive_of(site, *pages, body=BODY, name="/set.zip", to="out/HR") -> Archive:
    """The archive `body` under the address that answers by these pages."""
    site.pages[name] = list(pages) or [{"body": body}]
    url = f"http://127.0.0.1:{site.server_port}{name}"
    return Archive(url, hashlib.sha256(body).hexdigest(), "inside", to)


def files_in(folder) -> dict[str, bytes]:
    """The files below a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


WHOLE = {f"out/HR/{name}": content for name, content in FILES.items()}
PART = {"set.zip.part": BODY[:HALF]}


@pytest.mark.parametrize("pack, name", [(zip_of, "/set.zip"), (tar_of, "/set.tar")])
def test_an_archive_becomes_a_folder(site, tmp_path, pack, name):
    download([archive_of(site, body=pack(FILES), name=name)], tmp_path / "new")
    assert files_in(tmp_path / "new") == WHOLE and site.asked == [None]


@pytest.mark.parametrize("ranges", [True, False])
def test_the_next_call_continues_where_the_connection_broke_off(site, tmp_path, ranges):
    """Or begins again, if the server knows no ranges."""
    archive = archive_of(site, {"stop": HALF}, {"ranges": ranges})
    with pytest.raises(UserError, match="broke off.*repeat the command"):
        download([archive], tmp_path)
    assert files_in(tmp_path) == PART
    download([archive], tmp_path)
    assert files_in(tmp_path) == WHOLE and site.asked == [None, f"bytes={HALF}-"]


OTHER = zip_of({name: content[::-1] for name, content in FILES.items()})
CUT = {"set.zip": BODY[:-1]}
CASES = {  # the server's page, files before, what is said, files afterwards
    "a whole part": ({}, {"set.zip.part": BODY}, None, WHOLE),  # 416: nothing is left
    "an error page": ({"code": 503}, PART, "503.*repeat the command", PART),
    "a wrong sum": ({"body": OTHER}, {}, "SHA-256 .*, not", {}),
    "brought": ({}, {"set.zip": BODY}, None, {**WHOLE, "set.zip": BODY}),
    "brought, but cut": ({}, CUT, "SHA-256", CUT),
}


@pytest.mark.parametrize("case", CASES)
def test_files_that_are_there_and_what_becomes_of_them(site, tmp_path, case):
    page, before, words, after = CASES[case]
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) if words else nullcontext():
        download([archive_of(site, page)], tmp_path)
    assert files_in(tmp_path) == after
    assert bool(site.asked) == ("set.zip" not in before)


def test_a_disk_that_is_full_while_unpacking_keeps_the_part(
    site, tmp_path, monkeypatch
):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("asr_course.download.shutil.unpack_archive", full)
    with pytest.raises(OSError, match="No space"):
        download([archive_of(site)], tmp_path)
    assert files_in(tmp_path) == {"set.zip.part": BODY}
    assert os.listdir(tmp_path) == ["set.zip.part"]  # no folder either


def test_no_path_in_an_archive_leads_out_of_the_folder(site, tmp_path):
    bad = {"inside/a.png": b"x", "../../outside.png": b"evil"}
    zipped = archive_of(site, body=zip_of(bad, ""))
    download([zipped], tmp_path / "sets" / "zip")
    tarred = archive_of(site, body=tar_of(bad, ""), name="/set.tar")
    with pytest.raises(tarfile.OutsideDestinationError):
        download([tarred], tmp_path / "sets" / "tar")
    assert not list(tmp_path.rglob("outside.png"))


def test_published_facts_stand_in_the_readme():
    """SHA-256 of every archive, and where it goes."""
    page = (ROOT / "data" / "README.md").read_text()
    for archive in {archive for archives in SETS.values() for archive in archives}:
        assert archive.url.startswith("https://")
        assert re.fullmatch("[0-9a-f]{64}", archive.sha256)
        for fact in (f"{archive.sha256}  {archive.name}", archive.to):
            assert fact in page
    assert SETS["div2k-valid"][-1].to.endswith("HR")  # until then it is no data set


def png(rows: int, cols: int) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(picture(rows, cols)).save(packed, "PNG")
    return packed.getvalue()


def offer(site, monkeypatch, name: str) -> None:
    """Let the command find small archives of the same layout on our server."""
    archives = []
    for archive in SETS[name]:
        low = re.search("X([234])", archive.to)
        scale = int(low[1]) if low else 1
        files = [f"{archive.inside}/0801{f'x{scale}' if low else ''}.png"]
        if archive.inside == "benchmark":
            tests = ("Set5", "Set14", "B100", "Urban100")
            files = [f"benchmark/{test}/HR/baby.png" for test in tests]
        pack = zip_of if archive.name.endswith("zip") else tar_of
        body = pack({file: png(48 // scale, 60 // scale) for file in files}, "")
        made = archive_of(site, body=body, name=f"/{archive.name}")
        archives.append(made._replace(inside=archive.inside, to=archive.to))
    monkeypatch.setitem(SETS, name, tuple(archives))


SCORE = ["evaluate", "--model", "bicubic", "--data"]


def test_div2k_can_be_scored_and_trained_on(site, tmp_path, monkeypatch, capsys):
    """The LR files of the data set are used."""
    monkeypatch.chdir(tmp_path)
    offer(site, monkeypatch, "div2k")
    assert main(["download", "div2k", "--to", "my sets"]) == 0
    assert len(Folder("my sets/DIV2K_train", smallest=40)) == 1
    data = Benchmark("my sets/DIV2K_valid")
    (path,) = data.sizes
    for scale in (2, 3, 4):
        low = data.low_file(path, scale, "liif")
        assert low.name == f"0801x{scale}.png" and low.is_file()
    assert main([*SCORE, "my sets/DIV2K_valid"]) == 0
    assert capsys.readouterr().out.count("DIV2K_valid") > 3


def test_the_benchmark_can_be_scored_on(site, tmp_path, monkeypatch, capsys):
    """Into datasets/ where it is typed; a second time there is nothing to do."""
    monkeypatch.chdir(tmp_path)
    offer(site, monkeypatch, "benchmark")
    assert main(["download", "benchmark"]) == 0
    for name in ("Set5", "Set14", "B100", "Urban100"):
        assert main([*SCORE, f"datasets/benchmark/{name}", "--scales", "2"]) == 0
    capsys.readouterr()
    assert main(["download", "benchmark"]) == 0
    assert "datasets/benchmark: already there" in capsys.readouterr().out
    assert len(site.asked) == 1
