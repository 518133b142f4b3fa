"""Build the website: `make site`. No notebook is run, and no other machine is asked.

site/node_modules must be there (npm ci). What is on the way lies in site/build.
"""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from PIL import Image

from asr_course import sample_photo
from asr_course.weights import WEIGHTS

SITE = Path(__file__).resolve().parent
ROOT, BUILD, NODE = SITE.parent, SITE / "build", SITE / "node_modules"
SOURCE, LIVE = BUILD / "source", BUILD / "extra" / "live"
REPOSITORY = os.environ.get("ASR_REPOSITORY", "")  # https://..., to link to its files
MODELS = ("liif", "liif-recipe", "diinn", "diif", "hiif", "diin")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [*NOTEBOOKS, *sorted((ROOT / "docs").glob("*.md"))]
HOME = {"LIIF": "liif-recipe", **{n.upper(): n for n in MODELS[2:]}}
SENTENCE = (
    "What you see is a picture made beforehand. The slider needs a browser with "
    "WebAssembly and a page that comes from a web server, not from a file: "
    "<code>make site-serve</code>."
)
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs")
RUNTIME += ("ort-wasm-simd-threaded.wasm",)
CODE = ("export", "layers", "coords", "totals", "encoders", "models/*")


def export(name: str) -> None:
    """The ONNX files of shipped weights, unless they are there already."""
    files = [WEIGHTS / f"{name}.safetensors"]
    files += [f for c in CODE for f in sorted((ROOT / "asr_course").glob(f"{c}.py"))]
    stamp = hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()
    folder = BUILD / "models" / name
    if not (folder / "stamp").exists() or (folder / "stamp").read_text() != stamp:
        shutil.rmtree(folder, ignore_errors=True)
        words = ["export", "--model", name, "--out", folder, "--half"]
        subprocess.run([sys.executable, "-m", "asr_course", *words], check=True)
        (folder / "stamp").write_text(stamp)
    shutil.copytree(folder, LIVE / "models" / name)


def live(models: dict[str, str], up: str, inside: str = "") -> str:
    """The place of an explorer in a page; up: the way from the page to the top."""
    return (
        f'<link rel="stylesheet" href="{up}live/explorer.css">'
        f'<script type="module" src="{up}live/live.js"></script>'
        f"<div class=\"asr-live\" data-models='{json.dumps(models)}'>{inside}"
        f"<p>{SENTENCE}</p></div>"
    )


def links(text: str, page: Path) -> str:
    """Markdown whose links lead to pages, to the repository's files, or are dropped."""

    def link(found: re.Match) -> str:
        bang, words, target, anchor = found.groups()
        if not target or "://" in target:
            return found[0]
        path = (page.parent / target).resolve()
        if path == ROOT / "README.md":
            return f"[{words}](/index.md)"
        if path in PAGES or bang:
            if bang:
                copy = SOURCE / path.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
            return found[0]
        to = f"{REPOSITORY}/blob/main/{path.relative_to(ROOT)}"
        return f"[{words}]({to})" if REPOSITORY else words

    return re.sub(r"(!?)\[([^\]\n]*)\]\(([^)#\s]*)(#[^)\s]*)?\)", link, text)


def models_of(code: str) -> dict[str, str]:
    """The weights behind the tabs of an explorer: {label: name}, from its cell."""
    named, tabs = {}, {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Assign) and (name := loaded(node.value)):
            named[node.targets[0].id] = name
    for node in ast.walk(ast.parse(code)):
        for key, value in zip(*(getattr(node, k, ()) for k in ("keys", "values"))):  # noqa: B905
            name = loaded(value) or named.get(getattr(value, "id", ""))
            tabs |= {key.value: name} if name else {}
    return tabs


def loaded(node) -> str | None:
    """The name in load_pretrained("name"), perhaps with .to() after it."""
    found = re.search(r"load_pretrained\('([^']+)'\)", ast.unparse(node))
    return found[1] if found and isinstance(node, ast.Call) else None


def is_picture(output) -> bool:
    """Whether an output shows one, as `plots.show` does it."""
    return "<img" in output.get("data", {}).get("text/html", "")


def notebook(path: Path) -> nbformat.NotebookNode:
    """A copy for myst-nb, with links that lead somewhere and live explorers."""
    page = nbformat.read(path, as_version=4)
    for cell in page.cells:
        if cell.cell_type == "markdown":
            cell.source = links(cell.source, path)
        if cell.cell_type != "code":
            continue
        tags = cell.metadata.setdefault("tags", [])
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            tags.append("hide-input")
        models = models_of(cell.source) if "ScaleExplorer(" in cell.source else {}
        outputs, cell.outputs = cell.outputs, []
        if models and set(models.values()) <= set(MODELS):
            outputs = [o for o in outputs if is_picture(o)]
            html = {"text/html": live(models, "../")}
            cell.outputs = [nbformat.v4.new_output("display_data", html)]
        for output in outputs:
            if "text/markdown" in output.get("data", {}):
                text = links(output.data["text/markdown"], path)
                output.data["text/markdown"] = text
            cell.outputs.append(output)
    return page


def main() -> None:
    for folder in (SOURCE, BUILD / "extra", BUILD / "static", BUILD / "html"):
        shutil.rmtree(folder, ignore_errors=True)
    LIVE.mkdir(parents=True)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(export, MODELS))
    for name in RUNTIME:
        shutil.copy(NODE / "onnxruntime-web" / "dist" / name, LIVE)
    for name in ("resize.js", "worker.js", "live.js"):
        shutil.copy(SITE / name, LIVE)
    for name in ("explorer.js", "explorer.css"):
        shutil.copy(ROOT / "asr_course" / name, LIVE)
    Image.fromarray(sample_photo("astronaut")).save(LIVE / "photo.png")
    found = [f for f in LIVE.rglob("*") if f.suffix in (".onnx", ".wasm")]
    sizes = {f.relative_to(LIVE).as_posix(): f.stat().st_size for f in found}
    (LIVE / "files.json").write_text(json.dumps(sizes))

    for path in NOTEBOOKS:
        (SOURCE / "notebooks").mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook(path), SOURCE / "notebooks" / path.name)
    for path in PAGES[len(NOTEBOOKS) :]:
        (SOURCE / "docs").mkdir(exist_ok=True)
        (SOURCE / "docs" / path.name).write_text(links(path.read_text(), path))
    sheets = [
        output.data["text/html"]
        for path in NOTEBOOKS
        for cell in nbformat.read(path, 4).cells
        for output in cell.get("outputs", [])
        if "ScaleExplorer(" in cell.source and is_picture(output)
    ]
    image = ""
    for sheet in sheets[-1:]:  # of the last notebook, which shows all methods
        before, data, after = re.split(r"data:image/png;base64,([^\"]*)", sheet)
        (LIVE / "sheet.png").write_bytes(b64decode(data))
        image = f"{before}live/sheet.png{after}".replace("\n", " ")
    text = (SITE / "index.md").read_text()
    (SOURCE / "index.md").write_text(text.replace("LIVE", live(HOME, "", image)))

    (BUILD / "static").mkdir()
    shutil.copy(SITE / "site.css", BUILD / "static")
    for part in ("tex-chtml.js", "output/chtml/fonts", "input/tex/extensions"):
        source, target = (
            NODE / "mathjax" / "es5" / part,
            BUILD / "static/mathjax" / part,
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    words = ["-q", "-E", "-d", BUILD / "doctrees", "-c", SITE, SOURCE, BUILD / "html"]
    subprocess.run([sys.executable, "-m", "sphinx", *words], check=True)
    shutil.rmtree(ROOT / "_site", ignore_errors=True)
    shutil.move(BUILD / "html", ROOT / "_site")
    files = [f for f in (ROOT / "_site").rglob("*") if f.is_file()]
    size = sum(f.stat().st_size for f in files) / 1e6
    print(f"_site: {len(files)} files, {size:.1f} MB")


if __name__ == "__main__":
    main()
