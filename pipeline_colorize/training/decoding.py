"""Decode pictures to 8-bit sRGB tensors, and tell which of them have no colour to learn from."""

import numpy as np
import torch
from PIL import Image, ImageOps

from pipeline_colorize.core.color import bytes_to_linear, linear_to_xyz, merge_luminance, xyz_to_lab
from pipeline_colorize.photo import to_srgb
from pipeline_colorize.photo.column import open_record


def bytes_to_lab(pictures: torch.Tensor) -> torch.Tensor:
    """Convert 8-bit sRGB (B, 3, H, W) to L*a*b*; a table takes the place of the sRGB curve."""
    return xyz_to_lab(linear_to_xyz(bytes_to_linear(pictures)))


def decode(record: dict, short_side: int) -> torch.Tensor:
    """Decode a `datasets` image to 8-bit sRGB (3, H, W), its short side scaled as asked.

    Raises:
        OSError: if it is no readable picture.
    """
    with open_record(record) as image:
        image.draft("RGB", (short_side, short_side))  # JPEG: decode no more detail than needed
        image = to_srgb(ImageOps.exif_transpose(image))
    factor = short_side / min(image.size)
    if factor != 1:
        size = [max(round(factor * side), short_side) for side in image.size]
        image = image.resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def try_decode(record: dict, short_side: int) -> torch.Tensor | None:
    """Decode a picture, or return `None` for a broken one."""
    try:
        return decode(record, short_side)
    except Exception:  # decoders raise nearly anything, and one picture ends no training
        return None


def is_grey(picture: torch.Tensor) -> bool:
    """Say whether an 8-bit picture (3, H, W) has no colour to learn from."""
    spread = picture.amax(0).int() - picture.amin(0).int()
    return bool(spread.float().mean() < 3)


def is_toned(picture: torch.Tensor) -> bool:
    """Say whether an 8-bit picture (3, H, W) is a tinted grey one, such as sepia or cyanotype.

    There, a* and b* follow from the luminance: they hardly differ from their means at each of 50
    levels of L*.
    """
    lab = bytes_to_lab(picture[None])[0].flatten(1)
    luminance, chroma = lab[0], lab[1:].T
    level = (luminance / 2).long().clamp(0, 49)
    count = torch.bincount(level, minlength=50)[:, None].clamp(min=1)
    means = torch.zeros(50, 2).index_add_(0, level, chroma) / count
    return bool((chroma - means[level]).square().sum(1).mean().sqrt() < 2.5)


def grey_version(picture: torch.Tensor) -> torch.Tensor:
    """Return the 8-bit grey (H, W) with the CIE luminance of an 8-bit picture (3, H, W)."""
    luminance = bytes_to_lab(picture[None])[:, :1]
    grey = merge_luminance(luminance, luminance.new_zeros(1, 2, *luminance.shape[2:]))
    return (grey[0, 0] * 255).round().byte()
