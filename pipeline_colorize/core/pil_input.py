"""PIL pictures as the engines take them: upright, and in sRGB."""

import io

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


def _srgb_profile() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
