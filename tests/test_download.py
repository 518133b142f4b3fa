"""Downloads from a server that misbehaves: a good folder at the end, or a clear error.

The server runs in this process. `serve` is one that behaves; its options, and the
functions after it, are its faults. Archives are made here and hold a few bytes.
"""

import errno
import gzip
import hashlib
import io
import json
import os
import re
import shlex
import signal
import socket
import struct
import tarfile
import threading
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath

import numpy as np
import pytest
from filelock import FileLock
from helpers import ROOT, picture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from asr_course.__main__ import main, parser
from asr_course.archives import RECORD, Archive, BadArchive, safe_path
from asr_course.data import Folder
from asr_course.download import LOCK, SETS, TRIES, DataSet, download
from asr_course.errors import UserError
from asr_course.metrics import Benchmark

RNG = np.random.default_rng(0)
FILES = {"a.png": RNG.bytes(150_000), "more/b.png": RNG.bytes(100_000)}
TAG, OTHER = '"1"', '"2"'


def zip_of(files: dict, inside: str = "inside/") -> bytes:
    """A .zip of {name: bytes}."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as box:
        for name, content in files.items():
            box.writestr(zipfile.ZipInfo(inside + name), content)
    return packed.getvalue()


def tar_of(files: dict, inside: str = "inside/") -> bytes:
    """A .tar of {name: bytes}; a TarInfo in place of bytes is taken as it is."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as box:
        for name, content in files.items():
            info = tarfile.TarInfo(inside + name)
            if isinstance(content, bytes):
                info.size = len(content)
                box.addfile(info, io.BytesIO(content))
            else:
                content.name = inside + name
                box.addfile(content)
    return packed.getvalue()


BODY = zip_of(FILES)
HALF = len(BODY) // 2


# The server


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(self.headers.get("Range"))
        self.server.marks.append(self.headers.get("If-Range"))
        self.close_connection = True
        self.server.pages[self.path](self)

    def answer(self, code: int, **headers) -> None:
        """Status and headers; those that are None are left out."""
        self.send_response(code)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *words):
        pass


class Site(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages, self.leave = {}, threading.Event()
        self.asked, self.marks = [], []  # Range and If-Range of every request

    def put(self, page, name: str = "/set.zip") -> str:
        """Answer requests for a name by `page`; the address."""
        self.pages[name] = page
        return f"http://127.0.0.1:{self.server_port}{name}"

    def handle_error(self, request, address):
        pass  # a client that goes away is what many tests are about


@pytest.fixture(scope="module")
def running():
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.01,))
        thread.start()
        yield site
        site.leave.set()
        site.shutdown()
        thread.join()


@pytest.fixture
def site(running, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    running.pages.clear()
    running.asked.clear()
    running.marks.clear()
    running.leave.clear()
    yield running
    running.leave.set()


def serve(
    body=BODY,
    stop=None,
    tag=TAG,
    date=None,
    ranges=True,
    heeds=True,
    claim=None,
    kind="application/zip",
):
    """A page that holds `body`.

    stop: bytes after which the connection breaks off. ranges: whether it can go on
    from a place, heeds: only if the file is the same. claim: what it calls its length.
    """

    def page(handler):
        begin, asked = 0, handler.headers.get("Range")
        same = handler.headers.get("If-Range") in (None, tag, date)
        if asked and ranges and (same or not heeds):
            begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        rest = body[begin:]
        handler.answer(
            206 if begin else 200,
            Content_Type=kind,
            Content_Length=len(rest) if claim is None else claim,
            Content_Range=f"bytes {begin}-{len(body) - 1}/{len(body)}"
            if begin
            else None,
            ETag=tag,
            Last_Modified=date,
        )
        handler.wfile.write(rest[:stop])

    return page


def in_turn(*pages):
    """One page after the other, the last one for ever."""
    rest = list(pages)
    return lambda handler: (rest.pop(0) if len(rest) > 1 else rest[0])(handler)


def if_asked_to_go_on(page):
    """This page for those who ask for a part of the file, all of it for others."""
    return lambda handler: (page if handler.headers["Range"] else serve())(handler)


def says(code: int, body: bytes = b"", **headers):
    """A page with these headers, whatever is asked."""

    def page(handler):
        handler.answer(code, **headers)
        handler.wfile.write(body)

    return page


def resets(handler):
    """Half of it, then an error of the network instead of an end."""
    serve(stop=HALF)(handler)
    handler.wfile.flush()
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


def stalls(handler):
    """Half of it, then silence."""
    serve(stop=HALF)(handler)
    handler.server.leave.wait(5)


def chunked(handler):
    """Half of it in chunks, the last of which never comes."""
    handler.answer(200, Transfer_Encoding="chunked")
    handler.wfile.write(b"%x\r\n%s\r\n" % (HALF, BODY[:HALF]))


def no_http(handler):
    handler.wfile.write(b"220 ready\r\n")


def endless(handler):
    """It never says how long it is, and never ends."""
    handler.answer(200, Content_Type="application/zip")
    while not handler.server.leave.is_set():
        handler.wfile.write(BODY)


def redirects(count: int):
    """So many redirects, each to a new address, then the file."""

    def page(handler):
        step = int(handler.path.partition("?")[2] or 0)
        if step == count:
            return serve()(handler)
        new = f"/set.zip?{step + 1}"
        handler.server.pages[new] = page
        return says(302, Location=new, Content_Length=0)(handler)

    return page


def wrong_place(handler):
    """It begins a byte too late."""
    begin = int(handler.headers["Range"][6:-1]) + 1
    rest = BODY[begin:]
    span = f"bytes {begin}-{len(BODY) - 1}/{len(BODY)}"
    says(206, rest, Content_Range=span, Content_Length=len(rest))(handler)


# What the tests start from, and what they look at


@pytest.fixture
def folder(tmp_path):
    """Where downloads go: as yet not there."""
    return tmp_path / "place" / "sets"


def archive_of(site, page, body=BODY, name="/set.zip", **known) -> Archive:
    """The archive `body`, which `page` serves."""
    sha256 = hashlib.sha256(body).hexdigest()
    made = Archive(site.put(page, name), len(body), sha256, "inside", "out/HR")
    return made._replace(**known)


def get(archive, folder, timeout=5.0) -> list[str]:
    """Download one archive without pauses; what was told."""
    told = []
    download([archive], folder, pause=0, timeout=timeout, tell=told.append)
    return told


def left(folder) -> set[str]:
    """The files below a folder, without the lock."""
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    return names - {LOCK}


def is_whole(folder, files=FILES) -> bool:
    """Whether the pictures are there, byte for byte, and nothing else is."""
    place = folder / "out" / "HR"
    right = all((place / name).read_bytes() == x for name, x in files.items())
    names = {f"out/HR/{name}" for name in (*files, RECORD)}
    return right and left(folder) == names and not list(folder.glob(".unpacking-*"))


# Transfers that end well


def test_a_sound_server_gives_a_folder(site, folder):
    told = get(archive_of(site, serve()), folder)
    assert is_whole(folder) and site.asked == [None]
    sha256 = hashlib.sha256(BODY).hexdigest()
    assert told == [
        f"set.zip: 250kB, to {folder}/out/HR",
        f"{folder}/out/HR: 2 files, SHA-256 {sha256}, as published",
    ]


def test_a_tar_gives_the_same_folder(site, folder):
    body = tar_of({**FILES, "empty": folder_entry()})
    get(archive_of(site, serve(body), body, "/set.tar"), folder)
    assert is_whole(folder)


def folder_entry() -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type = tarfile.DIRTYPE
    return info


DATE = "Tue, 14 Feb 2017 01:58:09 GMT"
MENDED = {
    "breaks off twice": in_turn(serve(stop=HALF // 2), serve(stop=HALF), serve()),
    "breaks off at once": in_turn(serve(stop=0), serve()),
    "network error": in_turn(resets, serve()),
    "silence": in_turn(stalls, serve()),
    "no HTTP": in_turn(no_http, serve()),
    "chunks break off": in_turn(chunked, serve()),
    "no length": in_turn(serve(stop=HALF, claim=""), serve(claim="")),
    "no mark": in_turn(serve(stop=HALF, tag=None), serve(tag=None)),
    "weak mark": in_turn(serve(stop=HALF, tag='W/"1"'), serve(tag='W/"1"')),
    "a date": in_turn(
        serve(stop=HALF, tag=None, date=DATE), serve(tag=None, date=DATE)
    ),
    "no ranges": in_turn(serve(stop=HALF, ranges=False), serve(ranges=False)),
    "wrong place": in_turn(serve(stop=HALF), if_asked_to_go_on(wrong_place)),
    "nonsense for a place": in_turn(
        serve(stop=HALF),
        if_asked_to_go_on(says(206, BODY[HALF:], Content_Range="some")),
    ),
    "no such place": in_turn(serve(stop=HALF), if_asked_to_go_on(says(416))),
    "busy": in_turn(says(503), says(429), serve()),
    "redirects": redirects(5),
}


@pytest.mark.parametrize("page", MENDED.values(), ids=MENDED)
def test_a_fault_that_passes_ends_in_a_good_folder(site, folder, page):
    get(archive_of(site, page), folder, timeout=0.3)
    assert is_whole(folder)


def test_a_transfer_goes_on_where_it_broke_off(site, folder):
    """Each connection asks for what is missing, and nothing is sent twice."""
    page = in_turn(serve(stop=100_000), serve(stop=50_000), serve())
    get(archive_of(site, page), folder)
    assert site.asked == [None, "bytes=100000-", "bytes=150000-"]


def test_any_number_of_breaks_is_mended_while_something_new_comes(site, folder):
    """Twenty connections, more than the tries in a row that may bring nothing."""
    get(archive_of(site, serve(stop=len(BODY) // 20 + 1)), folder)
    assert is_whole(folder) and len(site.asked) == 20 > TRIES


def test_a_server_that_starts_over_each_time_brings_nothing_new(site, folder):
    """Without ranges every connection brings the same first half."""
    page = serve(stop=HALF, ranges=False)
    with pytest.raises(UserError, match="broke off at"):
        get(archive_of(site, page), folder)
    assert len(site.asked) == TRIES + 1


def changed() -> bytes:
    """Other pictures, packed to the same length."""
    return zip_of({name: content[::-1] for name, content in FILES.items()})


@pytest.mark.parametrize("heeds", [True, False], ids=["heeds If-Range", "does not"])
def test_a_changed_file_is_not_glued_to_an_old_start(site, folder, heeds):
    """Its mark is another one: all of it is fetched anew."""
    new = changed()
    page = in_turn(serve(stop=HALF), serve(new, tag=OTHER, heeds=heeds))
    get(archive_of(site, page, new), folder)
    assert is_whole(folder, {name: x[::-1] for name, x in FILES.items()})
    assert len(site.asked) == (2 if heeds else 3)


@pytest.mark.parametrize(
    "tag, date, mark", [(TAG, DATE, TAG), ('W/"1"', DATE, DATE), (None, None, None)]
)
def test_a_part_is_asked_to_go_on_only_if_the_file_is_the_same(
    site, folder, tag, date, mark
):
    """By the strong ETag, else by the date; without either the checksum must do."""
    page = in_turn(serve(stop=HALF, tag=tag, date=date), serve(tag=tag, date=date))
    get(archive_of(site, page), folder)
    assert site.marks == [None, mark]
    assert site.asked == [None, f"bytes={HALF}-"]


def test_a_part_waits_for_the_next_call(site, folder):
    archive = archive_of(site, in_turn(serve(stop=HALF), serve(stop=0)))
    with pytest.raises(UserError, match=f"{HALF} bytes of it are kept"):
        get(archive, folder)
    assert left(folder) == {"set.zip.part", "set.zip.part.mark"}
    site.asked.clear()
    site.put(serve())
    get(archive, folder)
    assert is_whole(folder) and site.asked == [f"bytes={HALF}-"]


@pytest.mark.parametrize("mark", [b'"1"\nHost: other', b"\xff\x00", b""])
def test_a_spoilt_mark_is_not_sent(site, folder, mark):
    folder.mkdir(parents=True)
    (folder / "set.zip.part").write_bytes(BODY[:HALF])
    (folder / "set.zip.part.mark").write_bytes(mark)
    get(archive_of(site, serve()), folder)
    assert is_whole(folder) and site.marks == [None]


def test_a_part_longer_than_the_archive_is_thrown_away(site, folder):
    folder.mkdir(parents=True)
    (folder / "set.zip.part").write_bytes(BODY + b"more")
    get(archive_of(site, serve()), folder)
    assert is_whole(folder) and site.asked == [None]


def test_pauses_grow_from_try_to_try(site, folder, monkeypatch):
    pauses = []
    monkeypatch.setattr("asr_course.download.time.sleep", pauses.append)
    with pytest.raises(UserError):
        download([archive_of(site, says(503))], folder, pause=3, tell=len)
    assert pauses == [3, 6, 9, 12]


# Transfers that cannot end well


HTML = b"\n<!DOCTYPE html><title>Moved</title>"
MOVED = says(200, b"We have moved.", Content_Type="text/html; charset=utf-8")
LOOP = says(302, Location="/set.zip", Content_Length=0)
REFUSED = {
    "a web page": (MOVED, "a web page comes"),
    "a web page called zip": (serve(HTML, claim=""), "a web page comes"),
    "gone": (says(404), "the server answers 404 Not Found"),
    "forbidden": (says(403), "the server answers 403 Forbidden"),
    "circle": (LOOP, "its redirects lead nowhere"),
    "far away": (redirects(6), "its redirects lead nowhere"),
    "to a file": (says(302, Location="file:///etc/passwd"), "redirects lead nowhere"),
    "to FTP": (says(302, Location="ftp://a/b.zip"), "ftp://a/b.zip is refused"),
    "to nonsense": (says(302, Location="http://[a"), "cannot download"),
    "longer": (serve(claim=len(BODY) + 1), f"{len(BODY) + 1} bytes where {len(BODY)}"),
    "shorter": (serve(claim=HALF), f"it offers {HALF} bytes where {len(BODY)}"),
    "another file": (serve(BODY + b"."), f"it offers {len(BODY) + 1} bytes"),
    "a byte more": (serve(BODY + b".", claim=""), f"more than the {len(BODY)} bytes"),
    "endless": (endless, f"more than the {len(BODY)} bytes that were expected"),
    "nothing": (serve(stop=0), f"broke off at 0 of {len(BODY)} bytes"),
    "busy for ever": (says(503), "the server answers 503"),
    "other bytes": (serve(changed()), "it is removed: repeat the command"),
}


@pytest.mark.parametrize("page, said", REFUSED.values(), ids=REFUSED)
def test_a_fault_that_stays_ends_in_words_and_leaves_nothing(site, folder, page, said):
    with pytest.raises(UserError) as error:
        get(archive_of(site, page), folder)
    assert said in str(error.value)
    assert left(folder) == set() and not (folder / "out").exists()


@pytest.mark.parametrize("case", ["gone", "forbidden", "a web page", "longer"])
def test_what_no_try_can_better_is_tried_once(site, folder, case):
    with pytest.raises(UserError):
        get(archive_of(site, REFUSED[case][0]), folder)
    assert len(site.asked) == 1


def test_the_words_for_a_dead_address_say_what_to_do(site, folder):
    archive = archive_of(site, says(410))
    with pytest.raises(UserError) as error:
        get(archive, folder)
    assert str(error.value) == (
        f"cannot download {archive.url}: the server answers 410 Gone; look at your "
        "connection and try again later; if the address is dead, get set.zip "
        f"({len(BODY)} bytes) elsewhere, put it into {folder} and repeat the command, "
        "which will check and unpack it"
    )


def test_a_redirect_to_a_web_page(site, folder):
    site.put(REFUSED["a web page called zip"][0], "/login")
    page = says(302, Location="/login", Content_Length=0)
    with pytest.raises(UserError, match="a web page comes instead"):
        get(archive_of(site, page), folder)
    assert left(folder) == set()


def test_a_server_that_is_not_there(site, folder):
    with socket.socket() as closed:  # bound, and nobody listens
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/set.zip"
        with pytest.raises(UserError, match="onnection refused; look at your conn"):
            get(archive_of(site, serve(), url=url), folder)


def test_a_file_that_is_always_cut_keeps_what_came(site, folder):
    """It says the right length, and never sends the last thousand bytes."""
    cut = BODY[:-1000]

    def page(handler):
        begin = int((handler.headers["Range"] or "bytes=0-")[6:-1])
        span = f"bytes {begin}-{len(BODY) - 1}/{len(BODY)}"
        rest = cut[begin:]
        says(206, rest, Content_Range=span, Content_Length=len(BODY) - begin)(handler)

    with pytest.raises(UserError, match=f"broke off at {len(cut)} of {len(BODY)}"):
        get(archive_of(site, page), folder)
    assert (folder / "set.zip.part").read_bytes() == cut


INSTEAD = {
    "a web page": MOVED,
    "a web page called zip": serve(HTML, claim="", ranges=False),
    "nothing": serve(stop=0, ranges=False),
    "another file": serve(BODY + b".", ranges=False),
}


@pytest.mark.parametrize("page", INSTEAD.values(), ids=INSTEAD)
def test_a_part_is_not_spoilt_by_what_comes_instead(site, folder, page):
    """Even if the server does not go on, but begins at the first byte."""
    page = in_turn(serve(stop=HALF), page)
    with pytest.raises(UserError):
        get(archive_of(site, page), folder)
    assert (folder / "set.zip.part").read_bytes() == BODY[:HALF]


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://a/set.zip", "set.zip"])
def test_other_addresses_than_http_are_refused(site, folder, url):
    with pytest.raises(UserError, match="only http:// and https://"):
        get(archive_of(site, serve(), url=url), folder)
    assert not folder.exists()


def test_a_full_disk_is_no_reason_to_try_again(site, folder, monkeypatch):
    class Full(io.BytesIO):
        def write(self, block):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("asr_course.download.open", lambda *a: Full(), raising=False)
    with pytest.raises(UserError, match=r"cannot write .*set\.zip\.part: the disk is"):
        get(archive_of(site, serve()), folder)
    assert len(site.asked) == 1


# What is published, and what is not


def test_a_wrong_checksum_removes_the_file_and_the_next_call_starts_over(site, folder):
    archive = archive_of(site, in_turn(serve(changed()), serve()))
    seen = hashlib.sha256(changed()).hexdigest()
    with pytest.raises(UserError, match=f"{seen}, not {archive.sha256}; it is removed"):
        get(archive, folder)
    assert left(folder) == set()
    get(archive, folder)
    assert is_whole(folder) and site.asked == [None, None]


def test_an_unknown_checksum_is_told_and_kept(site, folder):
    seen = hashlib.sha256(BODY).hexdigest()
    told = get(archive_of(site, serve(), sha256=None), folder)
    assert told[-1].endswith(f"SHA-256 {seen}, of which nothing is published")
    assert json.loads((folder / "out" / "HR" / RECORD).read_text())["sha256"] == seen


@pytest.mark.parametrize("name", ["/set.zip", "/set.tar"])
def test_damage_is_found_without_a_checksum(site, folder, name):
    """A zip checks every file in it. A tar whose list is broken cannot be read."""
    body = bytearray(BODY if name == "/set.zip" else tar_of(FILES))
    body[1000 if name == "/set.zip" else 100] ^= 255
    archive = archive_of(site, serve(bytes(body)), bytes(body), name, sha256=None)
    with pytest.raises(UserError, match="is damaged: .*it is removed"):
        get(archive, folder)
    assert left(folder) == set()


# Room


Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def free(monkeypatch):
    """Say how many bytes are free, at every call in turn."""

    def say(*numbers):
        rest = list(numbers)
        used = lambda path: Usage(0, 0, rest.pop(0) if len(rest) > 1 else rest[0])  # noqa: E731
        monkeypatch.setattr("asr_course.archives.shutil.disk_usage", used)

    return say


def test_room_is_looked_for_before_anything_is_asked(site, folder, free):
    """For the archive and what is in it."""
    free(2 * len(BODY) - 1)
    with pytest.raises(UserError, match="no room in .*: 500kB are needed and 500kB"):
        get(archive_of(site, serve()), folder)
    assert site.asked == []
    free(2 * len(BODY))
    get(archive_of(site, serve()), folder)
    assert is_whole(folder)


def test_what_has_arrived_needs_no_more_room(site, folder, free):
    archive = archive_of(site, in_turn(serve(stop=HALF), says(404), serve()))
    with pytest.raises(UserError):
        get(archive, folder)
    free(2 * len(BODY) - HALF)
    get(archive, folder)
    assert is_whole(folder)


def test_room_is_looked_for_before_unpacking_and_the_archive_waits(site, folder, free):
    archive = archive_of(site, serve())
    free(2 * len(BODY), 249_999)
    with pytest.raises(UserError, match="250kB are needed"):
        get(archive, folder)
    assert left(folder) == {"set.zip.part", "set.zip.part.mark"}
    free(10**6)
    get(archive, folder)
    assert is_whole(folder) and len(site.asked) == 1


# Unpacking


def link(kind: bytes, to: str = "../../outside.png") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, to
    return info


def zip_link() -> bytes:
    """A zip with a symbolic link in it, as `zip -y` makes them."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as box:
        info = zipfile.ZipInfo("inside/a.png")
        info.external_attr = 0o120777 << 16
        box.writestr(info, "/etc/passwd")
    return packed.getvalue()


def zeros(name: str, size: int) -> bytes:
    """A zip of a file of zeros, which takes a thousandth of it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as box:
        box.writestr(name, bytes(size))
    return packed.getvalue()


def encrypted() -> bytes:
    """A zip that says of its file that it takes a password."""
    body = bytearray(zip_of({"a.png": b"x"}))
    for begin in (6, body.index(b"PK\x01\x02") + 8):
        body[begin] |= 1
    return bytes(body)


PATHS = (
    "../outside.png",
    "../../outside.png",
    "inside/../../outside.png",
    "/{tmp}/outside.png",
    "..\\outside.png",
    "inside\\..\\..\\outside.png",
    "C:/outside.png",
    "C:outside.png",
    "\\\\server\\share\\outside.png",
    "inside/a.png:outside",
)
UNSAFE = {
    "symbolic link": (tar_of({"a.png": link(tarfile.SYMTYPE)}), "a link or a device"),
    "hard link": (tar_of({"a.png": link(tarfile.LNKTYPE)}), "a link or a device"),
    "pipe": (tar_of({"a.png": link(tarfile.FIFOTYPE)}), "a link or a device"),
    "device": (tar_of({"a.png": link(tarfile.CHRTYPE)}), "a link or a device"),
    "link in a zip": (zip_link(), "a link or a device"),
    "bomb": (zeros("inside/a.png", 3_000_000), "would take 3000000 bytes"),
    "many files": (zip_of({f"{k}.png": b"" for k in range(500)}), "would take 2048000"),
    "twice": (tar_of({"a.png": b"1", "./a.png": b"2"}), "two files"),
    "other case": (zip_of({"a.png": b"1", "A.PNG": b"2"}), "two files"),
    "folder of other case": (zip_of({"x/a.png": b"1", "X/b.png": b""}), "two files"),
    "accents": (zip_of({"\u00e9.png": b"1", "e\u0301.png": b"2"}), "two files"),
    "file as folder": (zip_of({"a": b"1", "a/b.png": b"2"}), "two files"),
    "folder as file": (zip_of({"a/b.png": b"2", "a": b"1"}), "two files"),
    "password": (encrypted(), "is damaged: .*password"),
    "another folder": (zip_of(FILES, "elsewhere/"), "holds no folder inside"),
    "no zip": (b"PK" * 500, "is damaged: File is not a zip file"),
}


def everything(folder) -> dict:
    """Every file below a folder: {path: bytes}."""
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("pack", [zip_of, tar_of], ids=["zip", "tar"])
@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out_of_the_folder(site, folder, tmp_path, path, pack):
    (tmp_path / "outside.png").write_bytes(b"mine")
    before = everything(tmp_path)
    bad = path.format(tmp=str(tmp_path).strip("/"))
    body = pack({"inside/a.png": b"x", bad: b"evil"}, inside="")
    archive = archive_of(site, serve(body), body, f"/set.{pack.__name__[:3]}")
    with pytest.raises(UserError, match="leads out of its folder; it is removed"):
        get(archive, folder)
    assert everything(tmp_path) == {**before, folder / LOCK: b""}


@pytest.mark.parametrize("body, said", UNSAFE.values(), ids=UNSAFE)
def test_unsafe_archives_are_removed_and_nothing_of_them_is_unpacked(
    site, folder, body, said
):
    name = "/set.zip" if body[:2] == b"PK" else "/set.tar"
    with pytest.raises(UserError, match=f"{said}.*; it is removed"):
        get(archive_of(site, serve(body), body, name), folder)
    assert left(folder) == set() and not (folder / "out").exists()


def test_a_tar_that_is_compressed_is_refused(site, folder):
    """Its list alone could take any amount of work."""
    body = gzip.compress(tar_of(FILES))
    with pytest.raises(UserError, match="is damaged"):
        get(archive_of(site, serve(body), body, "/set.tar"), folder)
    assert left(folder) == set()


@given(st.text(alphabet="a./\\: C\u00e9\n", max_size=12))
def test_a_name_becomes_a_path_below_or_is_refused(name):
    try:
        path = safe_path(name)
    except BadArchive:
        return
    assert isinstance(path, PurePosixPath) and path.parts
    assert not path.is_absolute() and ".." not in path.parts
    assert not {"\\", ":"} & set(str(path))


def test_what_an_archive_holds_besides_stays_in_it(site, folder):
    body = zip_of({"inside/a.png": b"x", "__MACOSX/a.png": b"y"}, inside="")
    get(archive_of(site, serve(body), body), folder)
    assert left(folder) == {"out/HR/a.png", f"out/HR/{RECORD}"}


def test_files_are_unpacked_as_files_of_the_user(site, folder):
    """Not with the permissions of the archive."""
    info = tarfile.TarInfo()
    info.mode = 0o4777
    body = tar_of({"a.png": info})
    get(archive_of(site, serve(body), body, "/set.tar"), folder)
    found = (folder / "out" / "HR" / "a.png").stat().st_mode & 0o7777
    (folder / "mine").touch()
    assert found == (folder / "mine").stat().st_mode & 0o7777


# Interrupts, and others at work


@pytest.fixture
def interruptible():
    """Ctrl-C interrupts, as it does outside of pytest's workers."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupted_transfer_keeps_its_part(site, folder, interruptible):
    def page(handler):
        serve(stop=HALF)(handler)
        handler.wfile.flush()
        os.kill(os.getpid(), signal.SIGINT)
        handler.server.leave.wait(5)

    archive = archive_of(site, in_turn(serve(stop=1000), page, serve()))
    with pytest.raises(KeyboardInterrupt):
        get(archive, folder)
    assert (folder / "set.zip.part").stat().st_size >= 1000
    get(archive, folder)
    assert is_whole(folder)


def test_an_interrupted_unpacking_leaves_the_archive_and_no_folder(
    site, folder, monkeypatch
):
    def interrupted(source, target):
        target.write(source.read(10))
        raise KeyboardInterrupt

    archive = archive_of(site, serve())
    with monkeypatch.context() as m:
        m.setattr("asr_course.archives.shutil.copyfileobj", interrupted)
        with pytest.raises(KeyboardInterrupt):
            get(archive, folder)
    assert left(folder) == {"set.zip.part", "set.zip.part.mark"}
    assert not list(folder.glob(".unpacking-*")) and not (folder / "out").exists()
    get(archive, folder)
    assert is_whole(folder) and len(site.asked) == 1


def test_what_a_killed_process_left_is_cleared_away(site, folder):
    (folder / ".unpacking-1" / "fresh").mkdir(parents=True)
    (folder / ".unpacking-1" / "fresh" / "a.png").touch()
    get(archive_of(site, serve()), folder)
    assert is_whole(folder)


def test_a_process_killed_after_the_last_step_left_an_archive(site, folder):
    archive = archive_of(site, serve())
    get(archive, folder)
    (folder / "set.zip.part").write_bytes(BODY)
    get(archive, folder)
    assert is_whole(folder)


def test_two_at_once_do_not_disturb_each_other(site, folder):
    """The second is told to wait, and the first ends well."""
    begun, go_on = threading.Event(), threading.Event()

    def page(handler):
        begun.set()
        go_on.wait(5)
        serve()(handler)

    archive = archive_of(site, page)
    first = threading.Thread(target=get, args=(archive, folder))
    first.start()
    assert begun.wait(5)
    with pytest.raises(UserError, match="another process downloads into"):
        get(archive, folder)
    go_on.set()
    first.join()
    assert is_whole(folder) and len(site.asked) == 1


def test_a_lock_that_was_left_behind_locks_nobody_out(site, folder):
    folder.mkdir(parents=True)
    with FileLock(folder / LOCK):
        pass
    (folder / LOCK).touch()
    get(archive_of(site, serve()), folder)
    assert is_whole(folder)


# What is there already


def test_what_is_there_is_not_fetched_again(site, folder):
    archive = archive_of(site, serve())
    get(archive, folder)
    assert get(archive, folder) == [f"{folder}/out/HR: already there, all 2 files"]
    assert len(site.asked) == 1


@pytest.mark.parametrize("spoil", [lambda p: p.unlink(), lambda p: p.write_bytes(b"")])
def test_files_that_have_gone_are_missed(site, folder, spoil):
    archive = archive_of(site, serve())
    get(archive, folder)
    spoil(folder / "out" / "HR" / "a.png")
    with pytest.raises(UserError, match=r"lacks 1 of 2 files.*such as a\.png; delete"):
        get(archive, folder)


@pytest.mark.parametrize("record", [None, "", "[]", '{"files": 3, "sha256": ""}'])
def test_a_folder_of_the_users_is_left_alone(site, folder, record):
    place = folder / "out" / "HR"
    place.mkdir(parents=True)
    (place / "mine.png").write_bytes(b"mine")
    if record is not None:
        (place / RECORD).write_text(record)
    with pytest.raises(UserError, match="is there, but not from this command"):
        get(archive_of(site, serve()), folder)
    assert (place / "mine.png").read_bytes() == b"mine" and site.asked == []


def test_a_folder_of_another_archive_is_no_match(site, folder):
    get(archive_of(site, serve()), folder)
    with pytest.raises(UserError, match=r"comes from another set\.zip; delete it"):
        get(archive_of(site, serve(), sha256="0" * 64), folder)


def test_an_archive_that_somebody_brought_is_taken_and_stays(site, folder):
    folder.mkdir(parents=True)
    (folder / "set.zip").write_bytes(BODY)
    get(archive_of(site, serve()), folder)
    assert (folder / "set.zip").read_bytes() == BODY and site.asked == []
    (folder / "set.zip").unlink()
    assert is_whole(folder)


@pytest.mark.parametrize(
    "body, said", [(BODY[:-1], "bytes, not"), (changed(), "the SHA-256")]
)
def test_a_wrong_archive_that_somebody_brought_is_not_touched(site, folder, body, said):
    folder.mkdir(parents=True)
    (folder / "set.zip").write_bytes(body)
    with pytest.raises(UserError, match=f"set.zip has .*{said}.*; replace it, or del"):
        get(archive_of(site, serve()), folder)
    assert left(folder) == {"set.zip"}


def test_archives_that_are_done_stay_when_a_later_one_fails(site, folder):
    one = archive_of(site, serve())
    two = archive_of(site, says(404), name="/two.zip", to="out/LR")
    with pytest.raises(UserError, match="two.zip"):
        download([one, two], folder, pause=0, tell=len)
    assert is_whole(folder)


# The command


def test_published_facts_stand_in_the_readme():
    """Address, bytes and SHA-256 of every archive, and where it goes."""
    page = (ROOT / "data" / "README.md").read_text()
    for archive in {a for known in SETS.values() for a in known.archives}:
        assert archive.url.startswith("https://")
        assert re.fullmatch("[0-9a-f]{64}", archive.sha256)
        for fact in (archive.name, f"{archive.size:,}", archive.sha256, archive.to):
            assert fact in page


def png(rows: int, cols: int, seed: int = 0) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(picture(rows, cols, seed)).save(packed, "PNG")
    return packed.getvalue()


def offer(site, monkeypatch, name: str, files: dict) -> None:
    """Have the command find these archives, {name: {path: bytes}}, on our server."""
    archives = []
    for archive in SETS[name].archives:
        pack = zip_of if archive.name.endswith(".zip") else tar_of
        body = pack(files[archive.name], inside="")
        archives.append(
            archive_of(site, serve(body), body, f"/{archive.name}")._replace(
                inside=archive.inside, to=archive.to
            )
        )
    monkeypatch.setitem(SETS, name, DataSet(tuple(archives), SETS[name].uses))


def div2k() -> dict:
    """DIV2K as its archives have it: two pictures to score on, one to train with."""
    low = {
        f"DIV2K_valid_LR_bicubic_X{s}.zip": {
            f"DIV2K_valid_LR_bicubic/X{s}/080{k}x{s}.png": png(48 // s, 60 // s)
            for k in (1, 2)
        }
        for s in (2, 3, 4)
    }
    high = {f"DIV2K_valid_HR/080{k}.png": png(48, 60, k) for k in (1, 2)}
    train = {"DIV2K_train_HR/0001.png": png(48, 60)}
    return {**low, "DIV2K_valid_HR.zip": high, "DIV2K_train_HR.zip": train}


def four_sets() -> dict:
    """The four test sets as EDSR's archive has them, a picture in each."""
    files = {}
    for name in ("Set5", "Set14", "B100", "Urban100"):
        files[f"benchmark/{name}/HR/baby.png"] = png(48, 60)
        for s in (2, 3, 4):
            low = f"benchmark/{name}/LR_bicubic/X{s}/babyx{s}.png"
            files[low] = png(48 // s, 60 // s)
    return {"benchmark.tar": files}


def lines_to_type(printed: str) -> list[list[str]]:
    """The commands after "next:", each as words."""
    lines = printed.partition("next:\n")[2].splitlines()
    return [shlex.split(line)[3:] for line in lines]


def test_div2k_can_be_scored_and_trained_on(site, tmp_path, monkeypatch, capsys):
    """The printed lines name the folders, and the LR files of the data set are used."""
    monkeypatch.chdir(tmp_path)
    offer(site, monkeypatch, "div2k", div2k())
    assert main(["download", "div2k", "--to", "my sets"]) == 0
    train, score = lines_to_type(capsys.readouterr().out)
    assert len(Folder(parser().parse_args(train).data, smallest=40)) == 1
    data = Benchmark(parser().parse_args(score).data[0])
    for scale in (2, 3, 4):
        low = data.low_file(data.paths[0], scale, "liif")
        assert low.name == f"0801x{scale}.png" and low.is_file()
    assert main([*score, "--model", "bicubic"]) == 0
    assert capsys.readouterr().out.count("DIV2K_valid") == 3


def test_the_benchmark_can_be_scored_on(site, tmp_path, monkeypatch, capsys):
    """Into datasets/ where it is typed; a second time there is nothing to do."""
    monkeypatch.chdir(tmp_path)
    offer(site, monkeypatch, "benchmark", four_sets())
    assert main(["download", "benchmark"]) == 0
    [score] = lines_to_type(capsys.readouterr().out)
    assert main([*score, "--model", "bicubic", "--scales", "2"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in ("Set5", "Set14", "B100", "Urban100"))
    assert main(["download", "benchmark"]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert said == "datasets/benchmark: already there, all 16 files"
    assert len(site.asked) == 1


def test_until_its_pictures_are_complete_div2k_cannot_be_scored_on(
    site, tmp_path, monkeypatch
):
    """LR files come first: never is it taken for a set that has none."""
    offer(site, monkeypatch, "div2k-valid", div2k())
    site.put(says(404), "/DIV2K_valid_HR.zip")
    assert main(["download", "div2k-valid", "--to", str(tmp_path / "sets")]) == 2
    with pytest.raises(UserError, match="no picture in"):
        Benchmark(tmp_path / "sets" / "DIV2K_valid")


@pytest.mark.parametrize(
    "words, said",
    [
        (["div2"], "unknown data set 'div2': choose from div2k, .* Did you mean"),
        (["benchmark", "--to", "file"], "cannot write into file: file is a file"),
    ],
)
def test_bad_words_are_answered_in_a_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main(["download", *words]) == 2
    assert re.match(f"asr_course download: {said}", capsys.readouterr().err)
    assert os.listdir() == ["file"]
