"""A photograph as the package holds it, and the formats that it may come from and go to."""

from dataclasses import dataclass, field

import numpy as np

WRITABLE = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
}
"""File name endings that `write` knows, with Pillow's name of the format."""

READABLE = frozenset(WRITABLE) | {
    ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".j2c", ".j2k", ".jp2", ".jpc",
    ".jpf", ".jpx", ".jxl", ".mpo", ".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".tga",
}  # fmt: skip
"""File name endings that count as photographs when a folder is searched."""

PICTURE_FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "JXL", "PCX", "PNG", "PPM",
    "TIFF", "WEBP", "TGA",
)  # fmt: skip
"""Pillow's names of the formats that are opened; TGA comes last because it has no signature.

Pillow knows more, and some of those run what a file says: EPS goes through Ghostscript, IPTC opens
the picture inside it as whatever that claims to be, and WMF is drawn by Windows.
"""

# https://cv.iptc.org/newscodes/digitalsourcetype/: a real capture with parts that a model made.
DIGITAL_SOURCE_TYPE = (
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)

SYSTEM = "pipeline-colorize"


class PhotoError(ValueError):
    """A file cannot be read or written as a photograph; the message is one line for people."""


class TooLargeError(PhotoError):
    """A file has more pixels than the limit (see `pixel_limit`)."""


@dataclass
class Photo:
    """A decoded photograph, upright."""

    image: np.ndarray  # (H, W) or (H, W, 3), sRGB-encoded; uint8, uint16, or float32 in [0, 1]
    depth: int  # bits a channel of the file: 8 or 16
    alpha: np.ndarray | None = None  # (H, W), uint8 or uint16
    lossless: bool = True  # the file's compression
    exif: bytes = b""  # orientation set to upright
    xmp: bytes = b""
    iptc: bytes = b""  # captions and credits in the older form that archives use (IPTC-IIM)
    texts: dict[str, str] = field(default_factory=dict)  # a PNG's, or a comment
    dpi: tuple[float, float] | None = None
    in_color: bool = False  # with colours that no toning explains (see `content`)
    sidecar: bool | None = None  # whether it had one, and whether named by its ending, too
    warnings: list[str] = field(default_factory=list)  # one line each, for people

    @property
    def image_with_alpha(self) -> np.ndarray:
        """The picture with its alpha as a last channel where it has one, for the pipeline."""
        if self.alpha is None:
            return self.image
        color = self.image if self.image.ndim == 3 else self.image[..., None]
        kind, alpha = color.dtype, self.alpha.astype(np.float32) / np.iinfo(self.alpha.dtype).max
        if kind.kind == "u":
            alpha = np.rint(alpha * np.iinfo(kind).max)
        return np.concatenate([color, alpha.astype(kind)[..., None]], axis=2)


@dataclass(frozen=True)
class Mark:
    """What is written into a result about how its colours came to be."""

    version: str  # of this package
    settings: dict[str, object]  # model, seed and whatever else it takes to get the same again

    def lines(self) -> dict[str, str]:
        """Return the IPTC properties (Photo Metadata Standard 2025.1, Extension schema)."""
        return {
            "DigitalSourceType": DIGITAL_SOURCE_TYPE,
            "AISystemUsed": SYSTEM,
            "AISystemVersionUsed": self.version,
            "AIPromptInformation": "; ".join(f"{k}={v}" for k, v in self.settings.items()),
        }


def one_line(error: Exception) -> str:
    """Return what an error says, on one line; its name where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
