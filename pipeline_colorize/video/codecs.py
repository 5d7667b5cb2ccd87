"""The codecs that results are written in, and what each of them takes."""

from dataclasses import dataclass, field, replace

from .reading import FilmError, FilmFacts


@dataclass(frozen=True)
class Codec:
    """Describes a codec.

    Args:
        encoder: FFmpeg's name of the encoder.
        depths: bits of a sample that it takes, rising.
        chroma: the subsamplings that it takes; the first is used unless the film needs another.
        quality: the default of --quality, and the option that it sets; lower is better.
        keeps: whether the film's own subsampling is kept where the codec takes it.
        fields: whether it codes interlaced frames as such.
        even: whether sides of 4:2:0 frames have to be even.
        options: other options of the encoder.
    """

    encoder: str
    depths: tuple[int, ...]
    chroma: tuple[str, ...]
    quality: tuple[str, int] | None
    keeps: bool = False
    fields: bool = True
    even: bool = True
    options: dict[str, str] = field(default_factory=dict)

    def depth_for(self, facts: FilmFacts) -> int:
        """Return the bits of a sample in which a film is written."""
        return next((d for d in self.depths if d >= facts.levels.depth), self.depths[-1])

    def limited(self, most_bits: int) -> "Codec":
        """Limit this codec to samples of so many bits, or of the fewest that it takes."""
        depths = tuple(depth for depth in self.depths if depth <= most_bits)
        return replace(self, depths=depths or self.depths[:1])

    def pixel_format(self, facts: FilmFacts) -> str:
        """FFmpeg's name of the pixel format in which a film is written."""
        chroma = self.chroma[0]
        if self.keeps and facts.subsampling in self.chroma:
            chroma = facts.subsampling
        if self.even and (facts.width % 2 or facts.height % 2) and "444" in self.chroma:
            chroma = "444"
        depth = self.depth_for(facts)
        return f"yuv{chroma}p" + (f"{depth}le" if depth > 8 else "")

    def encoder_options(self, facts: FilmFacts, quality: int | None) -> dict[str, str]:
        """Return the options of the encoder for a film and a quality; `None` is the default."""
        options = dict(self.options)
        if self.quality:
            name, default = self.quality
            options[name] = str(default if quality is None else quality)
        if self.encoder == "mpeg4":  # which counts quality from 1 to 31, in units of its own
            options["global_quality"] = str(118 * min(max(int(options["global_quality"]), 1), 31))
        if self.encoder == "libx264" and facts.interlaced:
            options["x264-params"] = "tff=1" if facts.top_first else "bff=1"
        return options


CODECS = {
    "h264": Codec("libx264", (8, 10), ("420", "444"), ("crf", 17), options={"preset": "medium"}),
    "h265": Codec(
        "libx265",
        (8, 10, 12),
        ("420", "444"),
        ("crf", 19),
        fields=False,
        options={"preset": "medium", "x265-params": "log-level=error"},
    ),
    "av1": Codec(
        "libsvtav1", (8, 10), ("420",), ("crf", 24), fields=False, options={"preset": "8"}
    ),
    "vp9": Codec(
        "libvpx-vp9",
        (8, 10),
        ("420", "444"),
        ("crf", 24),
        fields=False,
        options={"b": "0", "row-mt": "1", "cpu-used": "3"},
    ),
    "mpeg4": Codec("mpeg4", (8,), ("420",), ("global_quality", 3), options={"flags": "+qscale"}),
    "prores": Codec("prores_ks", (10,), ("422", "444"), None, options={"profile": "hq"}),
    "ffv1": Codec(
        "ffv1",
        (8, 10, 12, 16),
        ("420", "422", "444"),
        None,
        keeps=True,
        even=False,
        options={"level": "3", "slicecrc": "1", "slices": "4"},
    ),
}
"""The codecs by the names that --codec takes."""

STILLS = {
    ".dpx": Codec("dpx", (8, 10), ("444",), None, even=False),
    ".png": Codec("png", (8, 16), ("444",), None, even=False, options={"compression_level": "4"}),
    ".tif": Codec("tiff", (8, 16), ("444",), None, even=False),
    ".tiff": Codec("tiff", (8, 16), ("444",), None, even=False),
}
"""How numbered stills are written, by their ending."""

STILL_FORMATS = {
    "dpx": {8: "rgb24", 10: "gbrp10le"},
    "png": {8: "rgb24", 16: "rgb48be"},
    "tiff": {8: "rgb24", 16: "rgb48le"},
}
"""FFmpeg's names of the pixel formats of stills, by encoder and bits of a sample."""

# Containers by the ending of the result, as FFmpeg names them, and the codec that each begins with.
CONTAINERS = {
    ".avi": ("avi", "mpeg4"),
    ".m4v": ("mp4", "h264"),
    ".mkv": ("matroska", "h264"),
    ".mov": ("mov", "h264"),
    ".mp4": ("mp4", "h264"),
    ".webm": ("webm", "av1"),
}
_TAKES = {
    "avi": {"mpeg4", "ffv1"},  # it has no times for codecs whose frames are not in order
    "mp4": {"h264", "h265", "av1"},
    "mov": {"h264", "h265", "prores", "ffv1"},
    "webm": {"av1", "vp9"},
}


def choose_still(ending: str) -> Codec:
    """Return how stills with this ending are written.

    Raises:
        FilmError: if they are not written.
    """
    if ending not in STILLS:
        raise FilmError(f"stills are written as {' '.join(sorted(STILLS))}, not as {ending}")
    return STILLS[ending]


def choose_codec(ending: str, name: str | None) -> str:
    """Find the codec for a result with this ending by name; `None` is the container's default.

    Raises:
        FilmError: if results with this ending are not written, or cannot hold the codec.
    """
    if ending not in CONTAINERS:
        raise FilmError(f"{ending} is not written; use one of {' '.join(sorted(CONTAINERS))}")
    container, first = CONTAINERS[ending]
    name = name or first
    if name not in _TAKES.get(container, set(CODECS)):
        raise FilmError(f"a file named {ending} cannot hold {name}; {'.mkv'} holds every codec")
    return name


def result_ending(source_ending: str) -> str:
    """Return the ending of a result: the film's own if such files are written, else .mkv."""
    ending = source_ending.lower()
    return ending if ending in CONTAINERS else ".mkv"
