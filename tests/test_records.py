"""Records: what they hold, and the papers' numbers."""

import csv
import json
import math
import subprocess

import pytest

from asr_course import records
from asr_course.errors import UserError
from asr_course.records import (
    PAPERS,
    RESULTS,
    load_record,
    paper_rows,
    paper_values,
    save_record,
    started_by,
    write_json,
)


def test_a_record_says_how_it_came_about(tmp_path):
    rows = [{"psnr": math.inf, "ssim": [math.nan, 0.5]}]
    save_record(tmp_path / "a.json", rows, "python a.py", seeds=[1])
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["command"] == "python a.py" and record["seeds"] == [1]
    assert record["rows"] == [{"psnr": None, "ssim": [None, 0.5]}]
    assert {"commit", "torch", "python", "hardware"} <= record.keys()
    save_record(tmp_path / "a.json", [])
    assert json.loads((tmp_path / "a.json").read_text())["command"].startswith("python")


def test_the_command_of_a_record_names_no_place_of_this_machine():
    argv = ["/usr/bin/python3", "-m", "asr_course", "evaluate", "--data", "/x/set 5"]
    assert started_by(argv) == "python -m asr_course evaluate --data 'set 5'"
    argv = [".venv/bin/python", "studies/ablate.py", "a/b", "--seed", "1"]
    assert started_by(argv) == "python studies/ablate.py a/b --seed 1"


def test_the_commit_of_a_record(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "ROOT", tmp_path)
    assert records.commit() is None
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    (tmp_path / "file").write_text("one")
    for words in (["init"], ["add", "file"], [*who, "commit", "-m", "one"]):
        subprocess.run(["git", "-C", tmp_path, *words], check=True, capture_output=True)
    clean = records.commit()
    assert len(clean) == 40 and int(clean, 16)
    (tmp_path / "file").write_text("two")
    assert records.commit() == f"{clean}+dirty"


def test_every_record_of_the_course_loads():
    names = [path.stem for path in RESULTS.glob("*.json")]
    assert len(names) > 10
    for name in names:
        assert load_record(name)["rows"]
    with pytest.raises(UserError, match="unknown record"):
        load_record("nothing")


def test_a_failed_write_keeps_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", [1])
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", [object()])
    assert [p.read_text() for p in tmp_path.iterdir()] == ["[\n 1\n]\n"]


def test_paper_rows_are_those_of_the_file():
    with open(PAPERS, newline="") as file:
        assert paper_rows() == list(csv.DictReader(file))
    where = {"paper": "DIIF", "encoder": "RDN", "metric": "MACs_T_as_printed"}
    values = {row["method"]: row["value"] for row in paper_rows(**where)}
    assert values["LIIF"] == "5.416" and values["DIIF"] == "1.108" and len(values) == 6
    assert paper_rows(method="DIIF", encoder="a third one") == []


def test_paper_values_take_the_first_of_two_papers():
    """DIIN's table comes first in the file and prints 21.28 where DIIF's has 21.18."""
    where = {"method": "LIIF", "encoder": "EDSR-baseline", "dataset": "DIV2K-val"}
    rows = paper_rows(**where, scale="x24", metric="PSNR")
    assert [row["value"] for row in rows] == ["21.28", "21.18"]
    values = paper_values("LIIF", "EDSR-baseline", "DIV2K-val", "RGB")
    assert values["x24"] == 21.28 and {"x2", "x3", "x4"} < set(values)
    assert paper_values("LIIF", "RDN", "Set5", "Y")["x2"] == 38.17
