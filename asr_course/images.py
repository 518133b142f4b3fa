"""Pictures in and out, and every way of resizing them that a protocol uses."""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from asr_course.errors import UserError, choose

TRANSPARENT = (".png", ".webp", ".tif", ".tiff")
ORIENTATION = 0x0112  # the EXIF tag by which a camera says which way is up
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".gif")


def list_images(folder: str | Path) -> list[Path]:
    """The pictures directly inside `folder`, sorted by name. UserError if none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    found = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES]
    if not found:
        raise UserError(f"no picture in {folder}: looked for {', '.join(SUFFIXES)}")
    return found


def open_image(source) -> Image.Image:
    """Open a picture (path, file object or PIL image), the right way up.

    The pixels are still on disk. UserError if it cannot be read as a picture.
    """
    try:
        image = source if isinstance(source, Image.Image) else Image.open(source)
        # Pillow decodes a whole PNG to look for EXIF data at its end.
        may_turn = image.format != "PNG" or "exif" in image.info
        turned = may_turn and image.getexif().get(ORIENTATION, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except FileNotFoundError:
        raise UserError(f"no such file: {source}") from None
    except IsADirectoryError:
        raise UserError(f"{source} is a folder; a picture was expected") from None
    except Image.DecompressionBombError as error:
        raise UserError(f"{source} is too large to open safely: {error}") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UserError(f"cannot read {source} as a picture: {error}") from None


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """A picture of any mode as 8-bit "L" or "RGB", and its transparency ("L" or None).

    16-bit grey is reduced to 8 bits, palettes are expanded, CMYK is converted.
    UserError for floating-point pictures, whose range nobody knows.
    """
    try:
        image.load()
    except (OSError, SyntaxError) as error:
        name = getattr(image, "filename", "") or "the picture"
        raise UserError(f"{name} is damaged: {error}") from None
    if image.mode == "F":
        raise UserError(
            "the picture holds floating-point pixels, whose white is unknown; "
            "save it as an 8-bit PNG first"
        )
    if image.mode.startswith("I"):  # 16 bits, sometimes inside 32
        pixels = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((pixels + 128) // 257).astype(np.uint8)), None
    alpha = None
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
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
        with atomic(path) as temporary:
            image.save(temporary, format=kind)
    except (OSError, ValueError) as error:
        size = f"{image.height}x{image.width} pixels as {kind}"
        hint = "" if kind == "PNG" else "; a .png holds larger pictures"
        raise UserError(f"cannot write {path}, {size}: {error}{hint}") from None


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
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder")


class atomic:
    """`with atomic(path) as temporary`: path is replaced only if the block succeeds."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __enter__(self) -> Path:
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name)
        os.close(handle)
        self.temporary = Path(name)
        return self.temporary

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            os.chmod(self.temporary, 0o666 & ~current_umask())
            os.replace(self.temporary, self.path)
        else:
            self.temporary.unlink(missing_ok=True)


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
