"""Colours: modes, profiles and transparency of pictures that people bring."""

import io

import numpy as np
from PIL import Image, ImageCms
from scipy.ndimage import distance_transform_edt

SRGB = ImageCms.createProfile("sRGB")


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """An image of any mode as 8-bit "L" or "RGB", and its transparency ("L" or None).

    16-bit grey is reduced to 8 bits, palettes are expanded, CMYK is converted.
    """
    if image.mode == "CMYK":
        image = to_srgb(image)
    if image.mode.startswith("I"):  # 16-bit grey, also when stored in 32 bits
        levels, clear = np.asarray(image).astype(int), image.info.get("transparency")
        levels = levels.clip(0, 65535)
        grey = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
        grey.info = {key: x for key, x in image.info.items() if key != "transparency"}
        seen = Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8))
        return grey, None if clear is None else seen
    alpha = None
    grey = image.mode in ("1", "L", "LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    return image.convert("L" if grey else "RGB"), alpha


def to_srgb(image: Image.Image) -> Image.Image:
    """An image that holds a colour profile, as sRGB; others, and broken ones, as is."""
    if not (profile := image.info.get("icc_profile")):
        return image
    if image.mode in ("LA", "RGBA"):
        converted = to_srgb(image.convert(image.mode[:-1]))
        converted.putalpha(image.getchannel("A"))
        return converted
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):  # OSError: no profile at all
        return image
    if image.mode == "RGB":
        change = np.asarray(converted).astype(int) - np.asarray(image)
        if np.abs(change).max() <= 2:  # it is sRGB's own: nothing but rounding
            return image
    converted.info.pop("icc_profile", None)
    return converted


def spread(pixels: np.ndarray, alpha: Image.Image) -> np.ndarray:
    """(H, W[, 3]) in which pixels nobody sees take the nearest visible colour.

    What lies there is often black, and would darken the rim of an enlarged picture.
    """
    hidden = np.asarray(alpha) < 8  # of 255
    if not hidden.any() or hidden.all():
        return pixels
    found = distance_transform_edt(hidden, return_distances=False, return_indices=True)
    return pixels[tuple(found)]


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit sRGB, without its transparency."""
    return to_srgb(split_alpha(image)[0]).convert("RGB")
