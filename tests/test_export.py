"""Models written as ONNX and run by onnxruntime give what PyTorch gives.

Without onnxruntime these tests are skipped, unless ASR_REQUIRE_SITE is set.
"""

import json
import os
import sys

import numpy as np
import pytest
import torch
from helpers import awake, near, picture, tiny

from asr_course import build, load_pretrained, to_tensor
from asr_course.__main__ import main
from asr_course.coords import output_size
from asr_course.errors import UserError
from asr_course.export import export
from asr_course.render import Totals, decode_rows, encode
from asr_course.view import EVERY

if not os.environ.get("ASR_REQUIRE_SITE"):
    pytest.importorskip("onnxscript", reason="needs the extra [site]")
    pytest.importorskip("onnxruntime", reason="needs the extra [site]")


def sessions(files: dict[str, bytes]) -> dict:
    """onnxruntime's sessions of {"encoder": bytes, ...}."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return {k: onnxruntime.InferenceSession(v, options) for k, v in files.items()}


def run(session, values: dict) -> dict:
    """Outputs by name; values: of more names than the session may read."""
    fed = {item.name: values[item.name] for item in session.get_inputs()}
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(names, fed), strict=True))


def by_onnx(parts: dict, lr, size, window) -> torch.Tensor:
    """A window of an output (3, rows, cols), as the meaning in the card says."""
    n = [((2 * np.arange(k) + 1) / k - 1).astype(np.float32) for k in size]
    top, left, rows, cols = window
    rows, cols = n[0][top : top + rows], n[1][left : left + cols]
    values = run(parts["encoder"], {"picture": lr.numpy()})
    values["cell"] = np.array([[2 / size[0], 2 / size[1]]], np.float32)
    if "totals" in parts:
        grid = {"rows": rows[::EVERY], "cols": cols[::EVERY]}
        values |= run(parts["totals"], values | grid)
    return torch.tensor(
        run(parts["decoder"], values | {"rows": rows, "cols": cols})["rgb"][0]
    )


@torch.no_grad()
def by_torch(model, lr, size, window) -> torch.Tensor:
    """The same window as the explorer draws it."""
    encoded = encode(model, lr)
    totals = Totals(model, lambda: [(encoded, window)], size, every=EVERY)
    rows = decode_rows(model, encoded, size, window, totals)
    return torch.cat([row[1] for row in rows if row], dim=1)


def windows(lr):
    """Sizes of outputs, and windows in their last corner."""
    for scale in (1.7, 4, 13):
        size = output_size(lr.shape[-2:], scale)
        yield size, (size[0] - 20, size[1] - 27, 20, 27)


@pytest.mark.parametrize("name", ["liif", "diinn", "hiif", "diin"])
def test_onnxruntime_gives_what_pytorch_gives(name):
    torch.manual_seed(0)
    model = awake(build(name, "tiny"))
    protos = export(model)
    parts = sessions({key: p.SerializeToString() for key, p in protos.items()})
    assert ("totals" in parts) == model.is_nonlocal
    lr = to_tensor(picture(31, 40))  # another size than the export's
    for size, window in windows(lr):
        near(by_onnx(parts, lr, size, window), by_torch(model, lr, size, window))


def test_the_command_writes_shipped_weights_in_full_and_in_half(tmp_path, capsys):
    lr, model = to_tensor(picture(31, 40)), load_pretrained("diif")
    tolerance = {"full": 1e-5, "half": 1 / 255}
    for kind, more in {"full": [], "half": ["--half"]}.items():
        folder = tmp_path / kind
        assert main(["export", "--model", "diif", "--out", str(folder), *more]) == 0
        card = json.loads((folder / "card.json").read_text())
        assert card["trained"]["config"]["name"] == "diif" and card["opset"] == 20
        files = {f.stem: f.read_bytes() for f in folder.glob("*.onnx")}
        for key, session in sessions(files).items():
            ends = session.get_inputs(), session.get_outputs()
            assert card[key] == dict(
                zip(("inputs", "outputs"), names(ends), strict=True)
            )
        for size, window in windows(lr):
            mine = by_onnx(sessions(files), lr, size, window)
            near(mine, by_torch(model, lr, size, window), tolerance[kind])
    full, half = (f.stat().st_size for f in sorted(tmp_path.glob("*/decoder.onnx")))
    assert half < 0.7 * full
    before = {f: f.read_bytes() for f in folder.iterdir()}
    assert main(["export", "--out", str(folder)]) == 2  # nothing of it is replaced
    assert "exists" in capsys.readouterr().err
    assert before == {f: f.read_bytes() for f in folder.iterdir()}


def names(ends) -> list[list[str]]:
    return [[item.name for item in items] for items in ends]


def test_what_cannot_be_exported_is_refused_in_words(tmp_path, capsys, monkeypatch):
    assert main(["export", "--model", "idm", "--out", str(tmp_path / "idm")]) == 2
    assert "idm draws samples" in capsys.readouterr().err
    assert not (tmp_path / "idm").exists()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"\[site\]"):
        export(tiny())
