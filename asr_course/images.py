"""Pictures in and out, and every way of resizing them that a protocol uses."""

import io
import os
import platform
import re
import tempfile
import time
import warnings
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from asr_course.errors import UserError, choose, reason

TRANSPARENT = (".png", ".webp", ".tif", ".tiff")
ORIENTATION = 0x0112  # the EXIF tag by which a camera says which way is up
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".gif")


def list_images(folder: str | Path) -> list[Path]:
    """The pictures directly inside `folder`, sorted by name. UserError if none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give one that holds pictures")
    found = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES]
    if not found:
        raise UserError(
            f"no picture in {folder}: give a folder of files that end in "
            f"{', '.join(SUFFIXES)}"
        )
    return found


def read_sizes(paths: Sequence[Path]) -> tuple[dict[Path, tuple[int, int]], dict]:
    """(rows, cols) of pictures, and the names of those that cannot be read.

    Each is decoded once: a file may break off far behind its header, and this is the
    time to hear of it. UserError, with the first one's fault, if none can be read.
    """
    sizes, unreadable = {}, {}
    for path in tqdm(paths, "reading", disable=None, leave=False, delay=2):
        try:
            sizes[path] = decode(open_image(path)).size[::-1]
        except UserError as error:
            unreadable[path.name] = str(error)
    if not sizes:
        first = next(iter(unreadable.values()))
        raise UserError(
            f"no picture in {paths[0].parent} can be read, {len(paths)} were tried; "
            f"the first: {first}"
        )
    return sizes, unreadable


def note_left_out(folder, left_out: dict[str, str], count: int) -> str:
    """One line that names the pictures of a folder that were left out, and why."""
    named = [f"{name} ({why})" for name, why in list(left_out.items())[:3]]
    more = [f"{len(left_out) - 3} more"] if len(left_out) > 3 else []
    return (
        f"note: {len(left_out)} of {count} pictures in {folder} left out: "
        f"{', '.join(named + more)}"
    )


def open_image(source) -> Image.Image:
    """Open a picture (path, file object or PIL image), the right way up.

    The pixels are still on disk. UserError if it cannot be read as a picture. Of more
    than one picture in a file, the first.
    """
    name = source if isinstance(source, str | os.PathLike) else "the picture"
    try:
        with quiet():
            image = source if isinstance(source, Image.Image) else Image.open(source)
            # Pillow decodes a whole PNG to look for EXIF data at its end.
            may_turn = image.format != "PNG" or "exif" in image.info
            turned = may_turn and image.getexif().get(ORIENTATION, 1) != 1
            return ImageOps.exif_transpose(image) if turned else image
    except FileNotFoundError:
        raise UserError(f"no such file: {name}; check its name and folder") from None
    except IsADirectoryError:
        raise UserError(f"{name} is a folder; a picture was expected") from None
    except PermissionError:
        raise UserError(
            f"no permission to read {name}; change its permissions, or copy it"
        ) from None
    except Image.DecompressionBombError:
        raise UserError(
            f"{name} is too large to open: it claims more than "
            f"{2 * Image.MAX_IMAGE_PIXELS} pixels; cut it into parts first"
        ) from None
    except UnidentifiedImageError:
        raise UserError(not_a_picture(source, name)) from None
    except Exception as error:  # decoders meet broken files with errors of any kind
        raise UserError(damaged(name, error)) from None


def quiet() -> warnings.catch_warnings:
    """`with quiet():` Pillow's warnings about odd files are not printed.

    What it can read is read, up to twice its MAX_IMAGE_PIXELS, where it refuses.
    """
    return warnings.catch_warnings(action="ignore")


def not_a_picture(source, name) -> str:
    """The words for a file in which Pillow finds no picture."""
    if source is name and os.path.getsize(source) == 0:
        return f"cannot read {name} as a picture: it is empty; copy it again"
    return (
        f"cannot read {name} as a picture: Pillow knows no such kind; save it as a PNG"
    )


def damaged(name, error: Exception) -> str:
    """The words for a picture that breaks off or holds nonsense."""
    return f"{name} is damaged: {error}; copy it again, or leave it out"


def note_others(image: Image.Image, name) -> str:
    """A line if a file holds more pictures than this one, its first; "" if not.

    Frames of an animation, pages of a TIFF.
    """
    try:
        with quiet():
            held = getattr(image, "n_frames", 1)
    except Exception:  # counting them reads them
        return f"note: {name} is damaged behind its first picture; this is the first"
    if held == 1:
        return ""
    return f"note: {name} holds {held} pictures; this is the first of them"


def decode(image: Image.Image) -> Image.Image:
    """`image` with its pixels read.

    UserError if they cannot be, or are floating-point, whose range nobody knows.
    """
    name = getattr(image, "filename", "") or "the picture"
    try:
        with quiet():
            image.load()
    except Exception as error:
        raise UserError(damaged(name, error)) from None
    if image.mode == "F":
        raise UserError(
            f"{name} holds floating-point pixels, whose white is unknown; "
            "save it as an 8-bit PNG first"
        )
    return image


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """A picture of any mode as 8-bit "L" or "RGB", and its transparency ("L" or None).

    16-bit grey is reduced to 8 bits, palettes are expanded, CMYK is converted.
    """
    image = decode(image)
    if image.mode.startswith("I"):  # 16 bits, sometimes inside 32
        pixels = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((pixels + 128) // 257).astype(np.uint8)), None
    alpha = None
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    return image.convert("L" if grey else "RGB"), alpha


def to_rgb(image: Image.Image) -> Image.Image:
    """Any picture as 8-bit RGB, without its transparency."""
    return split_alpha(image)[0].convert("RGB")


def is_grey(pixels: np.ndarray) -> bool:
    """Whether a (H, W) or (H, W, 3) picture shows greys only, however it is stored."""
    return pixels.ndim == 2 or bool((pixels == pixels[..., :1]).all())


def to_tensor(image: Image.Image | np.ndarray) -> Tensor:
    """RGB or grey 8-bit picture to (1, 3, H, W) in [0, 1]; grey is repeated."""
    pixels = np.array(image)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return torch.from_numpy(pixels).movedim(-1, 0)[None] / 255


def to_pixels(picture: Tensor) -> np.ndarray:
    """(3, h, w) on the [0, 1] scale to (h, w, 3) uint8, clamped and rounded."""
    return (picture.clamp(0, 1) * 255).round().byte().movedim(0, -1).cpu().numpy()


def save_image(image: Image.Image, path: str | Path) -> None:
    """Write a picture whole or not at all."""
    path = Path(path)
    check_writable(path, transparent=image.mode in ("RGBA", "LA"))
    kind = Image.registered_extensions()[path.suffix.lower()]
    try:
        with atomic(path) as temporary, Careful(temporary) as file:
            image.save(file, format=kind)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        size = f"{image.height}x{image.width} pixels as {kind}"
        hint = "" if kind == "PNG" else "; a .png holds larger pictures"
        raise UserError(f"cannot write {path}, {size}: {error}{hint}") from None


class Careful(io.BufferedWriter):
    """A file that is written by Python, which notices when the disk is full.

    Pillow writes through fileno() if it can, and takes a part for the whole.
    """

    def __init__(self, path: Path):
        super().__init__(io.FileIO(path, "w"))

    def fileno(self):
        raise io.UnsupportedOperation("fileno")


def check_writable(path: str | Path, transparent: bool = False) -> None:
    """UserError unless a picture, perhaps a transparent one, can be written there."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"cannot write {path}: end its name in .png (or .jpg, .tif …)")
    if transparent and path.suffix.lower() not in TRANSPARENT:
        raise UserError(
            f"{path.suffix} files hold no transparency and this picture has some: "
            "write a .png"
        )
    check_file(path)


def check_file(path: str | Path) -> None:
    """UserError, before any work is done, unless a file can be written there."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; give a file's name")
    if path.exists() and not path.is_file():  # a device would be replaced
        raise UserError(f"cannot write {path}: it is no ordinary file; name another")
    if not path.parent.is_dir():
        raise UserError(
            f"cannot write {path}: the folder {path.parent} does not exist; make it, "
            "or choose another"
        )
    check_folder(path.parent)


def check_folder(path: str | Path) -> None:
    """UserError, before any work is done, unless files can be written into a folder.

    It need not be there yet, and is not made.
    """
    path = Path(path)
    there = nearest_there(path)
    if not there.is_dir():
        raise UserError(f"cannot write into {path}: {there} is a file; name a folder")
    try:
        try_writing(there)
    except OSError as error:
        why = reason(error) or f"{error.strerror}; choose another place"
        raise UserError(f"cannot write into {path}: {why}") from None


def nearest_there(path: Path) -> Path:
    """`path`, or the nearest of the folders around it that is there."""
    return next(p for p in (path, *path.parents) if p.exists())


def try_writing(folder: Path) -> None:
    """OSError unless a file can be made in a folder; none stays."""
    with tempfile.TemporaryFile(dir=folder):
        pass


class atomic:
    """`with atomic(path) as temporary`: path is replaced only if the block succeeds.

    UserError if there is no room, or no permission. A process that is killed leaves its
    temporary behind; the next to write the same file removes it.
    """

    writing: set[str] = set()  # names of the temporaries of this process

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __enter__(self) -> Path:
        remove_orphans(self.path)
        owner = f"{self.path.name}.{machine()}-{os.getpid()}-"
        try:
            handle, name = tempfile.mkstemp(".part", owner, self.path.parent)
        except OSError as error:
            self.explain(error)
            raise
        os.close(handle)
        self.temporary = Path(name)
        self.writing.add(self.temporary.name)
        return self.temporary

    def __exit__(self, kind, error, trace) -> None:
        try:
            if kind is None:
                os.chmod(self.temporary, 0o666 & ~current_umask())
                os.replace(self.temporary, self.path)
        except OSError as late:
            error = late
            raise
        finally:
            self.temporary.unlink(missing_ok=True)
            self.writing.discard(self.temporary.name)
            self.explain(error)

    def explain(self, error: BaseException | None) -> None:
        """UserError if the system says why it refused to write."""
        if isinstance(error, Exception) and not isinstance(error, UserError):
            why = reason(error)
            if why:
                raise UserError(f"cannot write {self.path}: {why}") from None


def remove_orphans(path: Path) -> None:
    """Remove the temporaries of `path` whose process is gone, or that are a day old.

    Those of a process that lives, or of another machine, may still be written to.
    """
    pattern = re.compile(re.escape(path.name) + r"\.([0-9a-f]{8})-(\d{1,7})-\w+\.part")
    with suppress(OSError):  # a folder that one may write to, but not list
        for name in os.listdir(path.parent):
            if found := pattern.fullmatch(name):
                with suppress(OSError):  # another process was faster, or owns it
                    part = path.parent / name
                    old = time.time() - part.stat().st_mtime > 24 * 3600
                    here = found[1] == machine()
                    if old or here and not writes(int(found[2]), name):
                        part.unlink()


def writes(process: int, name: str) -> bool:
    """Whether a process of this machine may be writing the temporary of this name."""
    if process == os.getpid():  # or of an earlier one that had the same number
        return name in atomic.writing
    if os.name == "nt":  # where asking would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, and is another user's
        pass
    return True


def machine() -> str:
    """Eight digits that tell this machine from others that share a folder with it."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def current_umask() -> int:
    """The permissions that new files of this process do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def resize(
    pixels: np.ndarray, size: tuple[int, int], how: str = "pillow"
) -> np.ndarray:
    """Resize (H, W) or (H, W, 3) uint8 to `size` = (rows, cols), bicubic throughout.

    how = "pillow": Pillow's BICUBIC, which training and most protocols use.
    how = "matlab": MATLAB's imresize, which made the published LR files.
    how = "torch": torch's antialiased bicubic on uint8, which DIINN's protocol uses.
    The three share one kernel and differ in borders and in when they round.
    """
    choose("resize", how, ("pillow", "matlab", "torch"))
    if how == "pillow":
        image = Image.fromarray(pixels)
        return np.array(image.resize(size[::-1], Image.Resampling.BICUBIC))
    if how == "matlab":
        return matlab_resize(pixels, size)
    planes = torch.tensor(np.atleast_3d(pixels)).movedim(-1, 0)[None].float()
    planes = F.interpolate(planes, size, mode="bicubic", antialias=True)
    planes = planes.round().clamp(0, 255).byte()[0].movedim(0, -1).numpy()
    return planes.reshape(*size, *pixels.shape[2:])


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic kernel with a = -1/2: 1 at 0, 0 at every other integer."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def bicubic_matrix(n_in: int, n_out: int) -> np.ndarray:
    """Weights (n_out, n_in) of bicubic resizing along one axis, borders replicated.

    When the picture shrinks, the kernel is stretched by the same factor, so that it
    also removes what the smaller picture cannot hold.
    """
    scale = n_out / n_in
    stretch = max(1.0, 1 / scale)
    centre = (np.arange(n_out) + 0.5) / scale - 0.5  # in input pixels
    first = np.floor(centre - 2 * stretch).astype(int)
    taps = first[:, None] + np.arange(int(np.ceil(4 * stretch)) + 2)  # (n_out, k)
    weight = cubic((centre[:, None] - taps) / stretch)
    weight /= weight.sum(axis=1, keepdims=True)
    matrix = np.zeros((n_out, n_in))
    rows = np.broadcast_to(np.arange(n_out)[:, None], taps.shape)
    np.add.at(matrix, (rows, taps.clip(0, n_in - 1)), weight)
    return matrix


def matlab_resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bicubic as MATLAB's imresize does it: rows first, 8 bits after either pass.

    (H, W) or (H, W, 3) uint8. Floating-point pictures are resized without rounding.
    """
    whole = pixels.dtype == np.uint8
    picture = pixels.astype(np.float64)
    for axis in (0, 1):
        matrix = bicubic_matrix(picture.shape[axis], size[axis])
        picture = np.moveaxis(np.tensordot(matrix, picture, (1, axis)), 0, axis)
        if whole:
            picture = np.floor(picture + 0.5).clip(0, 255)
    return picture.astype(pixels.dtype)


PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")


def sample_photo(name: str = "chelsea") -> np.ndarray:
    """One of scikit-image's bundled photographs: (rows, cols, 3) uint8, no download.

    astronaut and rocket are in the public domain (NASA, SpaceX), chelsea and coffee
    are CC0.
    """
    from skimage import data  # importing it takes a while and few callers need it

    return getattr(data, choose("photograph", name, PHOTOS))()


# Where the most telling 256 x 256 pixels of each photograph begin (row, col).
CROPS = {
    "astronaut": (20, 110),
    "chelsea": (20, 100),
    "coffee": (60, 170),
    "rocket": (130, 220),
}


def sample_crops(side: int = 256) -> dict[str, np.ndarray]:
    """A square of each bundled photograph to score on: {name: (side, side, 3)}."""
    return {
        name: np.ascontiguousarray(
            sample_photo(name)[top : top + side, left : left + side]
        )
        for name, (top, left) in CROPS.items()
    }
