# @title Install the course, where it is not there yet (Colab, or a bare kernel)
import importlib.util
import subprocess
import sys
from pathlib import Path

COURSE = ""  # on Colab: the address that `git clone` takes

if importlib.util.find_spec("asr_course") is None:
    near = [p for p in (Path.cwd(), *Path.cwd().parents) if (p / "asr_course").is_dir()]
    if not (near or COURSE):
        raise RuntimeError(
            "the course is not installed in this kernel: choose the kernel of its "
            ".venv, or write its address between the quotes of COURSE, and run again"
        )
    root = near[0] if near else Path("asr-course").absolute()
    if not root.exists():
        subprocess.run(["git", "clone", "--depth", "1", COURSE, str(root)], check=True)
    pip = [sys.executable, "-m", "pip", "install", "-q", "-e", str(root)]
    subprocess.run(pip, check=True)
    sys.path.insert(0, str(root))
if "google.colab" in sys.modules:  # Colab shows widgets of packages only when asked
    sys.modules["google.colab"].output.enable_custom_widget_manager()
