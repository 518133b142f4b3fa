"""Take each guard away and see that its test notices.

    python tests/remove_guards.py [WORDS]     all of tests/guards, or rows with WORDS

A row names a file, the words of a guard in it, what to put in their place ("" if left
out) and the tests that watch it. In a copy of the repository the tests pass; with the
guard gone at least one of them must fail. The repository itself is not touched.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("asr_course", "tests", "notebooks", "docs", "pyproject.toml", "README.md")


def rows(words: str = "") -> list[dict]:
    """The guards, those whose text has `words` in it."""
    found = []
    for path in sorted((ROOT / "tests" / "guards").glob("*.toml")):
        found += tomllib.loads(path.read_text())["guard"]
    return [row for row in found if words in str(row)]


def without(row: dict) -> str:
    """The text of a row's file without its guard, which must stand there once."""
    text = (ROOT / row["file"]).read_text()
    if text.count(row["guard"]) != 1:
        raise ValueError(f"not once in {row['file']}: {row['guard']!r}")
    return text.replace(row["guard"], row.get("instead", ""))


def passes(folder: Path, tests: list[str]) -> bool:
    """Whether tests pass in a copy of the repository."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", *tests]
    environment = dict(os.environ, PYTHONPATH=str(folder), OMP_NUM_THREADS="1")
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode not in (0, 1):  # neither passed nor failed: it never ran
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return done.returncode == 0


def main(words: str = "") -> int:
    """Try every row; the exit code is the number of guards that nobody watches."""
    unwatched, chosen = 0, rows(words)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "copy"
        folder.mkdir()
        for part in COPIED:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        (folder / "data").symlink_to(ROOT / "data")
        tests = sorted({test for row in chosen for test in row["tests"]})
        if not passes(folder, tests):
            raise SystemExit("the tests fail with all guards in place")
        for row in chosen:
            changed = folder / row["file"]
            before = changed.read_text()
            changed.write_text(without(row))
            missed = passes(folder, row["tests"])
            changed.write_text(before)
            unwatched += missed
            first = row["guard"].strip().splitlines()[0]
            print(
                f"{'MISSED' if missed else 'seen'}  {row['file']}: {first}", flush=True
            )
    print(f"{len(chosen)} guards taken away, {unwatched} not missed by any test")
    return unwatched


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
