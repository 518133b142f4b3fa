"""Before JupyterLab starts: notebooks to work in, and settings. `make lab` calls it.

    python tools/lab.py [FOLDER]      my_notebooks, if no folder is given

Every notebook is copied into the folder unless one of its name is there, so that
reading and running changes no file of the repository. Copies are trusted, so that
widgets show again after a reload. Settings: no question about news, and the state of
widgets is saved, so that they keep their picture until they are run again.
"""

import os
import shutil
import sys
from pathlib import Path

import nbformat
from nbformat.sign import NotebookNotary

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = Path(sys.prefix, "share/jupyter/lab/settings/overrides.json")


def copy_notebooks(folder: Path) -> list[str]:
    """Copy what is not there; the names of notebooks that were kept."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = []
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        if (folder / path.name).exists():
            kept.append(path.name)
            continue
        unfinished = folder / f".{path.name}"
        shutil.copyfile(path, unfinished)
        os.replace(unfinished, folder / path.name)
        NotebookNotary().sign(nbformat.read(path, as_version=4))
    return kept


def main(folder: str = "my_notebooks") -> None:
    if copy_notebooks(ROOT / folder):
        print(f"{folder} holds your notebooks; delete one to get it anew")
    if not SETTINGS.exists():
        SETTINGS.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "tools" / "overrides.json", SETTINGS)


if __name__ == "__main__":
    main(*sys.argv[1:])
