"""Pictures as the engines take them: PIL ones upright and in sRGB, and arrays of any kind."""

import io

import numpy as np
import PIL.Image
from PIL import ImageCms, ImageOps

# Modes that little CMS reads, and the mode of the same picture in sRGB.
_MANAGED = {"L": "RGB", "RGB": "RGB", "CMYK": "RGB"}


def upright_srgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """Turn a picture upright by its EXIF orientation and bring it to sRGB by its ICC profile.

    Transparency is left out. A picture without a profile, with a damaged one, or in a mode that
    the colour management does not read (16 bits, floating point) keeps its values.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "La":  # which Pillow takes to nothing else
        image = image.convert("LA")
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    if image.mode in ("RGBA", "P", "LA", "PA"):
        image = image.convert("L" if image.mode == "LA" else "RGB")
    if image.mode not in _MANAGED:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        managed = ImageCms.profileToProfile(
            image, source, _srgb_profile(), outputMode=_MANAGED[image.mode]
        )
        return managed or image  # never nothing, unless it is asked to change the picture itself
    except (ImageCms.PyCMSError, OSError):
        return image


def upright_alpha(image: PIL.Image.Image) -> np.ndarray | None:
    """Return the alpha of a picture that is turned upright, as in `alpha_of`."""
    return alpha_of(ImageOps.exif_transpose(image)) if image.has_transparency_data else None


def alpha_of(image: PIL.Image.Image) -> np.ndarray | None:
    """Return the alpha of a picture as (H, W) in [0, 1]; `None` where it has none.

    It is a channel, or a transparent colour of a palette or a PNG.
    """
    if not image.has_transparency_data:
        return None
    if image.mode.startswith("I"):  # of these, Pillow forgets the transparent value
        return (np.asarray(image) != image.info["transparency"]).astype(np.float32)
    if image.mode == "La":
        image = image.convert("LA")
    return np.asarray(image.convert("RGBA").getchannel("A"), np.float32) / 255


def normalise_array(array: np.ndarray) -> np.ndarray:
    """Any picture array to (H, W, 1 or 3), uint8 or float32 in [0, 1]."""
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4) or 0 in array.shape:
        raise ValueError(
            "A picture array is (H, W) or (H, W, 1 to 4 channels) with at least one pixel, "
            f"not {array.shape}."
        )
    array = array[:, :, : 1 if array.shape[2] < 3 else 3]  # its alpha is read elsewhere
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return array.astype(np.float32) / 65535
    if array.dtype == bool:
        return array.astype(np.float32)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"A picture array is bool, uint8, uint16 or float, not {array.dtype}.")
    array = array.astype(np.float32)
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # also true for NaN
        raise ValueError(f"A float picture lies in [0, 1], but this one in [{low}, {high}].")
    return array


def pil_to_array(image: PIL.Image.Image) -> np.ndarray:
    """Any mode to an array that `normalise_array` takes."""
    if image.mode.startswith("I"):  # "I;16" and its kin, and 32-bit "I" that holds 16-bit values
        array = np.asarray(image).astype(np.int64)
        if array.size and not 0 <= array.min() <= array.max() <= 65535:
            raise ValueError(
                f"An integer picture lies in 0..65535, but this one in "
                f"{array.min()}..{array.max()}."
            )
        return array.astype(np.uint16)
    if image.mode in ("F", "L", "RGB"):
        return np.asarray(image)
    return np.asarray(image.convert("L" if image.mode in ("1", "LA", "La") else "RGB"))


def _srgb_profile() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
