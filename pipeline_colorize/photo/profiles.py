"""Colour management: what a file's ICC profile says about its pixels, by littleCMS."""

import functools
import struct

import numpy as np
from PIL import Image, ImageCms

from ..core.colorimetry import LINEAR_SRGB_BELOW, RGB_TO_XYZ, decode_srgb
from ..core.pictures import alpha_of
from .hidden import without_hidden

CHANNELS = {"gray": 1, "rgb": 3, "cmyk": 4}

_STRIP_ROWS = 256

_WIDE_GAMMA = 1.8
# Of sRGB: x and y of white, and of red, green and blue.
WHITE = (0.3127, 0.329)
PRIMARIES = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
# Transfer functions as ITU-T H.273 numbers them. Those that are no gamma, of sRGB and television,
# are taken as that of sRGB.
GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0, 17: 2.6}
SRGB = 13
HDR_CURVES = (16, 18)
HDR_NOTE = "it is an HDR picture, whose brightness may come out wrong"


@functools.cache
def srgb_profile() -> bytes:
    """Return an sRGB ICC profile, the same bytes every time."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = struct.pack(">6H", 1999, 10, 1, 0, 0, 0)  # littleCMS writes the time of day
    return bytes(profile)


def to_srgb(image: Image.Image) -> Image.Image:
    """Return a picture in 8-bit sRGB, by way of its ICC profile where it has a sound one for RGB.

    What is transparent takes the colours of what lies around.
    """
    profile, alpha = image.info.get("icc_profile"), alpha_of(image)
    image = image.convert("LA").convert("L") if image.mode == "La" else image
    image = image.convert("RGB")
    if alpha is not None:
        image = Image.fromarray(without_hidden(np.asarray(image), alpha)[1])
    try:
        if not profile or _profile_space(profile) != "rgb" or _is_srgb(profile):
            return image
        return Image.fromarray(_transform(np.asarray(image), profile, srgb_profile(), "uint8"))
    except Exception:  # imagecodecs has its own error classes
        return image


def read_profile(opened: Image.Image, space: str, notes: list[str]) -> bytes | None:
    """Read the file's ICC profile, or make one for what it says about its colours otherwise."""
    profile: bytes | None = opened.info.get("icc_profile")
    if profile:
        return profile
    if codes := opened.info.get("nclx_profile"):
        return _profile_of_heif(codes, space, notes)
    gamma = opened.info.get("gamma")
    if not gamma or "srgb" in opened.info or abs(gamma - 1 / 2.2) < 0.01:
        return None
    return plain_profile(space == "gray", WHITE, PRIMARIES, 1 / gamma)


def _profile_of_heif(codes: dict, space: str, notes: list[str]) -> bytes | None:
    """Return an ICC profile for the codes of ITU-T H.273 that a HEIF file has in place of one."""
    curve = codes["transfer_characteristics"]
    if curve in HDR_CURVES:
        notes.append(HDR_NOTE)
    white, primaries = (
        tuple(round(codes[f"color_primary_{name}_{axis}"], 5) for name in names for axis in "xy")
        for names in (("white",), ("red", "green", "blue"))
    )
    if (white, primaries) == (WHITE, PRIMARIES) and curve not in GAMMAS:
        return None
    return plain_profile(space == "gray", white, primaries, GAMMAS.get(curve))


def plain_profile(
    is_gray: bool, white: tuple[float, ...], primaries: tuple[float, ...], gamma: float | None
) -> bytes:
    """Return an ICC profile for colours that are given by numbers.

    Args:
        is_gray: whether it is a profile for grey.
        white: x and y of white.
        primaries: x and y of red, green and blue; those of grey are not used.
        gamma: of the curve; `None` for the curve of sRGB.
    """
    import imagecodecs

    ramp = decode_srgb(np.linspace(0, 1, 4096)).astype(np.float32)
    columns = [(*primaries[at : at + 2], 1.0) for at in (0, 2, 4)]
    return imagecodecs.cms_profile(
        "gray" if is_gray else "rgb",
        whitepoint=[*white, 1.0],
        primaries=None if is_gray else [value for column in columns for value in column],
        gamma=gamma,
        transferfunction=None if gamma else ramp,
    )


def for_pipeline(
    color: np.ndarray, space: str, profile: bytes | None, notes: list[str]
) -> np.ndarray:
    """Stored colours (H, W, C) as what the pipeline takes: (H, W) grey or (H, W, 3), sRGB."""
    profile = profile if profile and _profile_fits(profile, space, notes) else None
    if profile is not None:
        try:
            if not _is_srgb(profile):
                return _gray_through_profile(color, space, profile)
        except Exception:  # imagecodecs has its own error classes
            notes.append("its colour profile is damaged and was left out")
    if space == "cmyk":
        color = _naive_rgb(color)
    return color[..., 0] if color.shape[2] == 1 else color


def to_srgb_cells(cells: np.ndarray, space: str, profile: bytes | None) -> np.ndarray:
    """Convert a few stored colours (h, w, C) in [0, 1] to sRGB (h, w, 3) in [0, 1]."""
    if space == "cmyk" and not profile:
        return _naive_rgb(cells)
    try:
        if profile and _profile_space(profile) == space and not _is_srgb(profile):
            whole = np.rint(cells * 65535).astype(np.uint16)
            return _transform(whole, profile, srgb_profile(), "float32").clip(0, 1)
    except Exception:  # imagecodecs has its own error classes
        pass
    return _naive_rgb(cells) if space == "cmyk" else cells


def _profile_space(profile: bytes) -> str:
    return {b"GRAY": "gray", b"RGB ": "rgb", b"CMYK": "cmyk"}.get(profile[16:20], "unknown")


def _profile_fits(profile: bytes, space: str, notes: list[str]) -> bool:
    found = _profile_space(profile)
    if found == space or (space, found) == ("gray", "rgb"):
        return True
    notes.append(f"its colour profile is for {found} and its pixels are {space}; it was left out")
    return False


def _transform(pixels: np.ndarray, source: bytes, target: bytes, dtype: str) -> np.ndarray:
    """Pixels (H, W, C) of a profile to RGB (H, W, 3) of another, relative colorimetric."""
    import imagecodecs

    return imagecodecs.cms_transform(
        np.ascontiguousarray(pixels if pixels.shape[2] > 1 else pixels[..., 0]),
        source,
        target,
        colorspace=_profile_space(source),
        outcolorspace="rgb",
        outdtype=dtype,
        intent=1,
    )


@functools.lru_cache(maxsize=8)
def _is_srgb(profile: bytes) -> bool:
    """Tell whether a profile is sRGB in 8 bits, but for the rounding of its makers.

    Those differ by up to 1.4 levels; wide gamuts and other curves by many more.
    """
    channels = CHANNELS[_profile_space(profile)]
    if channels == 4:
        return False
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    cube = np.stack(np.meshgrid(*[levels] * channels, indexing="ij"), axis=-1)
    cube = cube.reshape(-1, 1, channels)
    found = _transform(cube, profile, srgb_profile(), "float32") * 255
    return bool(np.abs(found - cube).max() < 2)


def _gray_through_profile(color: np.ndarray, space: str, profile: bytes) -> np.ndarray:
    """Stored colours (H, W, C) to the sRGB-encoded grey (H, W) of their luminance, float32."""
    if color.dtype == np.float32:
        color = np.rint(color * 65535).astype(np.uint16)
    if space == "gray":
        levels = np.arange(np.iinfo(color.dtype).max + 1, dtype=color.dtype).reshape(-1, 1, 1)
        levels = levels.repeat(CHANNELS[_profile_space(profile)], axis=2)
        # A grey profile's curve is coarse near black in littleCMS's whole numbers.
        wide = _transform(levels, profile, _wide_profile(), "float32").clip(0, 1)
        return _gray_of(np.rint(wide * 65535).astype(np.uint16))[:, 0][color[..., 0]]
    gray = np.empty(color.shape[:2], dtype=np.float32)
    for top in range(0, len(gray), _STRIP_ROWS):  # strips bound the memory of large scans
        rows = slice(top, top + _STRIP_ROWS)
        gray[rows] = _gray_of(_transform(color[rows], profile, _wide_profile(), "uint16"))
    return gray


def _gray_of(wide: np.ndarray) -> np.ndarray:
    """Convert 16-bit RGB (..., 3) of `_wide_profile` to sRGB-encoded grey of its luminance.

    Going to sRGB itself would clip the colours outside it, and with them their luminance.
    """
    y_of_red, y_of_green, y_of_blue = _wide_luminance()
    y = y_of_red[wide[..., 0]] + y_of_green[wide[..., 1]] + y_of_blue[wide[..., 2]]
    root = np.sqrt(y.clip(0, 1))
    return _gray_of_root()[np.rint(root * 65535).astype(np.uint16)]


@functools.cache
def _wide_profile() -> bytes:
    """RGB of the primaries of ROMM (ISO 22028-2), which hold all surface colours."""
    import imagecodecs

    return imagecodecs.cms_profile(
        "rgb",
        whitepoint=[0.34567, 0.35850, 1.0],
        primaries=[0.7347, 0.2653, 1.0, 0.1596, 0.8404, 1.0, 0.0366, 0.0001, 1.0],
        gamma=_WIDE_GAMMA,
    )


@functools.cache
def _wide_luminance() -> np.ndarray:
    """Tabulate what each level of each channel of the wide RGB adds to sRGB's Y: (3, 65536)."""
    primaries = np.eye(3, dtype=np.float32).reshape(3, 1, 3)
    # In floating point littleCMS does not clip; below zero it goes on in a straight line.
    srgb = _transform(primaries, _wide_profile(), srgb_profile(), "float32")[:, 0]
    linear = np.where(srgb > 0, decode_srgb(srgb.clip(0)), srgb / 12.92)
    weights = linear @ np.array(RGB_TO_XYZ[1])
    curve = np.linspace(0, 1, 65536) ** _WIDE_GAMMA
    return (weights[:, None] * curve).astype(np.float32)


@functools.cache
def _gray_of_root() -> np.ndarray:
    """Tabulate sRGB-encoded grey by the square root of Y, which is even enough: (65536,)."""
    y = np.linspace(0, 1, 65536) ** 2
    curve = 1.055 * y.clip(LINEAR_SRGB_BELOW) ** (1 / 2.4) - 0.055
    return np.where(y > LINEAR_SRGB_BELOW, curve, y * 12.92).astype(np.float32)


def _naive_rgb(cmyk: np.ndarray) -> np.ndarray:
    """CMYK (H, W, 4) without a profile to RGB (H, W, 3) of the same type."""
    top = 1.0 if cmyk.dtype == np.float32 else float(np.iinfo(cmyk.dtype).max)
    light = 1 - cmyk.astype(np.float32) / top
    rgb = light[..., :3] * light[..., 3:] * top
    return rgb if cmyk.dtype == np.float32 else np.rint(rgb).astype(cmyk.dtype)
