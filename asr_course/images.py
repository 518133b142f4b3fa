"""Images in and out, and the three ways of resizing that the protocols use.

image: PIL; pixels: (rows, cols) or (rows, cols, 3) uint8; x: (3, h, w) in [0, 1].
"""

import io
import os
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from asr_course.colours import split_alpha, to_rgb, to_srgb
from asr_course.errors import UserError, choose

TRANSPARENT = (".png", ".webp", ".tif", ".tiff", ".avif", ".jp2")  # can be written
SUFFIXES = (*TRANSPARENT, ".jpg", ".jpeg", ".jfif", ".bmp", ".ppm", ".gif")


def image_files(folder: str | Path) -> list[Path]:
    """The files in `folder` of formats that Pillow reads, by name."""
    if not Path(folder).is_dir():
        raise UserError(f"{folder} is not a folder; give one that holds images")
    kinds = Image.registered_extensions()
    files = [p for p in sorted(Path(folder).iterdir()) if p.is_file()]
    return [p for p in files if kinds.get(p.suffix.lower()) in Image.OPEN]


def list_images(folder: str | Path) -> tuple[dict[Path, tuple[int, int]], dict]:
    """{path: (rows, cols)} of the images in `folder`, or in its HR/ if it has one; and
    {name: why} of those that cannot be read."""
    hr = Path(folder) / "HR"
    paths = image_files(hr if hr.is_dir() else folder)
    sizes, left_out = {}, {}
    for path in tqdm(paths, "reading", disable=None, leave=False, delay=2):
        try:
            sizes[path] = open_image(path).size[::-1]
        except UserError:
            left_out[path.name] = "cannot be read"
    if not sizes:
        known = ", ".join(SUFFIXES)
        raise UserError(f"no image in {folder} can be read: give files of {known}")
    return sizes, left_out


def open_image(source) -> Image.Image:
    """Read an image (path, file object or PIL image), the right way up.

    Of several frames or pages, the first. UserError if it cannot be read.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            image = source if isinstance(source, Image.Image) else Image.open(source)
            about = about_tiff(image) if image.format == "TIFF" else {}
            image.load()
            if image.mode == "F":
                raise ValueError("its pixels are floats; save it as an 8-bit PNG")
            low, high = image.getextrema() if image.mode == "I" else (0, 0)
            if low < 0 or high > 65535:
                raise ValueError("its pixels are no 16-bit levels; save it as a PNG")
            tags = getattr(image, "tag_v2", {}) if image.mode == "I;16" else {}
            about["frames"] = getattr(image, "n_frames", 1)
            image = image.copy()
            image.info |= about
            mend_exif(image)
            if tags.get(258) == (12,):
                image.paste(Image.fromarray(np.asarray(image) * 16))
            if tags.get(262) == 0:  # white is 0
                image.paste(Image.fromarray(65535 - np.asarray(image)))
            ImageOps.exif_transpose(image, in_place=True)
            return image
    except Exception as error:  # Pillow raises many kinds
        name = source if isinstance(source, str | os.PathLike) else "the image"
        unknown = isinstance(error, UnidentifiedImageError)
        why = "no format that Pillow knows; save it as a PNG" if unknown else error
        raise UserError(f"cannot read {name}: {why}") from None


def mend_exif(image: Image.Image) -> None:
    """Of EXIF that cannot be written again, keep only how the picture is turned."""
    kept, turn = Image.Exif(), ExifTags.Base.Orientation
    try:
        kept[turn] = image.getexif().get(turn, 1)
        image.getexif().tobytes()
    except Exception:  # Pillow raises many kinds
        image.info["exif"] = kept.tobytes()


def about_tiff(image: Image.Image) -> dict:
    """What a TIFF's tags say about its picture, and not how its pixels are stored."""
    tags, kept = image.getexif(), Image.Exif()
    names = ("ImageDescription", "Make", "Model", "DateTime", "Artist", "Copyright")
    for name in (*names, "ExifOffset", "GPSInfo"):
        tag = ExifTags.Base[name]
        if value := tags.get_ifd(tag) or tags.get(tag):
            kept[tag] = value
    return {"exif": kept.tobytes()} if len(kept) else {}


def read_pixels(source) -> np.ndarray:
    """An image as sRGB (rows, cols, 3) uint8, without its transparency."""
    return np.asarray(to_rgb(open_image(source)))


def to_tensor(image: Image.Image | np.ndarray) -> Tensor:
    """RGB or grey (H, W[, 3]), of 8 or 16 bits, to (1, 3, H, W) in [0, 1].

    Grey is repeated.
    """
    pixels = np.array(image)
    largest = np.iinfo(pixels.dtype).max
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return torch.from_numpy(pixels).movedim(-1, 0)[None] / largest


def to_pixels(x: Tensor) -> np.ndarray:
    """(3, h, w) in [0, 1] to (h, w, 3) uint8, clamped and rounded."""
    return (x.clamp(0, 1) * 255).round().byte().movedim(0, -1).cpu().numpy()


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all, and make the folders that it is in."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name[:50]}.{os.getpid()}.part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_image(image: Image.Image, path: str | Path, quality: int = 95) -> None:
    """Write an image in the format that the suffix names, with its profile and data.

    quality: 1 to 100, of JPEG, WebP and AVIF. 16 bits and profiles that the format
    cannot hold become 8 bits and sRGB.
    """
    kind = Image.registered_extensions()[Path(path).suffix.lower()]
    if image.mode.startswith("I") and kind not in ("PNG", "TIFF"):
        image = split_alpha(image)[0]
    colour = image.mode.startswith("RGB")  # WebP and AVIF make colours of grey
    fits = kind in ("JPEG", "PNG", "TIFF") or (kind in ("WEBP", "AVIF") and colour)
    image = image if fits else to_srgb(image)
    how = {k: image.info[k] for k in ("icc_profile", "exif", "dpi") if k in image.info}
    if not fits:
        how["icc_profile"] = None  # one for colours would tint what was grey
    if kind in ("JPEG", "WEBP", "AVIF"):
        how |= {"quality": quality}
    if kind == "JPEG":
        how |= {"subsampling": 0}  # 4:4:4
    file = io.BytesIO()  # Pillow, writing to a disk, does not notice that it is full
    image.save(file, kind, **how)
    write_whole(path, file.getvalue())


def check_place(path: str | Path, overwrite: bool = False) -> None:
    """UserError unless a file, or files in a folder, can be written there, and it is
    new, empty or may be replaced."""
    path = Path(path)
    if (any(path.iterdir()) if path.is_dir() else path.exists()) and not overwrite:
        raise UserError(f"{path} exists: choose another name, or add --overwrite")
    folder = path.parent if path.is_file() else path
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UserError(f"cannot write {path}: choose another folder")


def resize(pixels: np.ndarray, size: tuple[int, int], how="pillow") -> np.ndarray:
    """Resize (H, W) or (H, W, 3) uint8 to `size` = (rows, cols), bicubic throughout.

    how: "pillow", for training and most protocols; "matlab", MATLAB's imresize, which
    made the published LR files; "torch", antialiased, for DIINN's protocol. The three
    share one kernel and differ at borders and in when they round.
    """
    choose("resize", how, ("pillow", "matlab", "torch"))
    if how == "pillow":
        image = Image.fromarray(pixels)
        return np.array(image.resize(size[::-1], Image.Resampling.BICUBIC))
    if how == "matlab":
        return matlab_resize(pixels, size)
    x = torch.tensor(np.atleast_3d(pixels)).movedim(-1, 0)[None].float()
    x = F.interpolate(x, size, mode="bicubic", antialias=True)
    x = x.round().clamp(0, 255).byte()[0].movedim(0, -1)
    return x.numpy().reshape(*size, *pixels.shape[2:])


def matlab_resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """MATLAB's bicubic imresize of (H, W[, 3]), rows first, borders replicated.

    uint8 is rounded after each pass; floating point is not.
    """
    x = torch.tensor(np.atleast_3d(pixels)).movedim(-1, 0)[None].double()
    for rows, cols in ((size[0], x.shape[3]), size):
        H, W = x.shape[2:]
        x = F.pad(x, (W, W, H, H), "replicate")
        x = F.interpolate(x, (3 * rows, 3 * cols), mode="bicubic", antialias=True)
        x = x[..., rows : 2 * rows, cols : 2 * cols]
        if pixels.dtype == np.uint8:
            x = (x + 0.5).floor().clamp(0, 255)
    resized = x[0].movedim(0, -1).numpy().astype(pixels.dtype)
    return resized.reshape(*size, *pixels.shape[2:])


# Where the most telling 256 x 256 pixels of each photograph begin.
CROPS = {
    "astronaut": (20, 110),
    "chelsea": (20, 100),
    "coffee": (60, 170),
    "rocket": (130, 220),
}


def sample_photo(name: str = "chelsea") -> np.ndarray:
    """One of scikit-image's photographs: (rows, cols, 3) uint8, no download.

    astronaut and rocket are in the public domain, chelsea and coffee are CC0.
    """
    from skimage import data  # slow to import

    return getattr(data, choose("photograph", name, CROPS))()


def sample_crops(side: int = 256) -> dict[str, np.ndarray]:
    """A square of each bundled photograph to score on: {name: (side, side, 3)}."""
    return {
        name: np.ascontiguousarray(sample_photo(name)[r : r + side, c : c + side])
        for name, (r, c) in CROPS.items()
    }


def name_of(folder: str | Path) -> str:
    """The name of a folder, also of "." and of ".."."""
    return Path(os.path.abspath(folder)).name
