"""Pictures of any kind -> luminance for the network; chroma from the network -> pictures.

The luminance of the input is never changed: at full size, it decides where the colours end.
"""

from collections.abc import Sequence

import numpy as np
import PIL.Image
import torch
from torch.nn import functional as F

from .color import bytes_to_linear, linear_to_luminance, merge_luminance, rgb_to_luminance
from .finishing import EVEN_VARIANCE, GUIDE_DETAIL, TEXTURE_HALF_POINT, heat_picture
from .hints import HINT_FADE, Hint, draw_hints
from .pictures import normalise_array, pil_to_array, upright_alpha, upright_srgb
from .sizes import fit_size, row_chunks
from .transparency import Light, alpha_of_array, see_light


def _pixels_to_luminance(pixels: torch.Tensor) -> torch.Tensor:
    """Convert (1 or 3, H, W) uint8 or float sRGB in [0, 1] to L* (1, H, W) by chunks."""
    if pixels.dtype == torch.uint8 and pixels.shape[0] == 1:
        table = linear_to_luminance(bytes_to_linear(torch.arange(256)).view(1, 1, 256)).flatten()
        return table[pixels.int()]
    result = torch.empty(1, *pixels.shape[1:])
    for rows in row_chunks(*pixels.shape[1:]):
        if pixels.dtype == torch.uint8:
            result[:, rows] = linear_to_luminance(bytes_to_linear(pixels[:, rows]))
        else:
            result[:, rows] = rgb_to_luminance(pixels[:, rows])
    return result.clamp(0, 100)


def _resized(luminance: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize L* (1, H, W)."""
    small = F.interpolate(
        luminance[None], size, mode="bilinear", antialias=True, align_corners=False
    )
    return small[0].clamp(0, 100)


def _tensor_to_array(image: torch.Tensor) -> np.ndarray:
    """Return a tensor ([C, ]H, W) to an array (H, W[, C])."""
    image = image.detach().cpu()
    image = image.float() if image.dtype == torch.bfloat16 else image
    return (image.movedim(0, -1) if image.ndim == 3 else image).numpy()


class ColorizationImageProcessor:
    """What the pipeline does before and after the network.

    Args:
        chroma_stride: working luminance pixels to a cell of the chroma grid, along one side.
        stride: height and width of the working picture are multiples of this.
        doubtful_hints: whether the network knows that hints may be wrong (`draw_hints`).

    >>> processor = ColorizationImageProcessor(chroma_stride=4, stride=32)
    >>> luminance = processor.to_luminance(PIL.Image.new("L", (1024, 768), 255))
    >>> luminance.shape, round(luminance.max().item())
    (torch.Size([1, 768, 1024]), 100)
    >>> processor.working_size(768, 1024, 128)
    (128, 160)
    """

    def __init__(self, chroma_stride: int = 1, stride: int = 8, doubtful_hints: bool = False):
        self.chroma_stride = chroma_stride
        self.stride = stride
        self.doubtful_hints = doubtful_hints

    # --- picture in -----------------------------------------------------------------------------

    def to_luminance(self, image: PIL.Image.Image | np.ndarray | torch.Tensor) -> torch.Tensor:
        """One picture of any kind to L* (1, H, W), float32 in [0, 100].

        Args:
            image: PIL of any mode; an array (H, W[, C]) of bool, uint8, uint16 or float in [0, 1];
                or a tensor ([C, ]H, W) of the same types. Colour is taken as its luminance, alpha
                is left out.
        """
        return self._luminance_and_alpha(image)[0]

    def see(self, image: PIL.Image.Image | np.ndarray | torch.Tensor) -> Light:
        """Return the luminance of a picture as it is written, and as it decides the colours."""
        luminance, alpha = self._luminance_and_alpha(image)
        return see_light(luminance[0].numpy(), alpha)

    @staticmethod
    def _luminance_and_alpha(image) -> tuple[torch.Tensor, np.ndarray | None]:
        if isinstance(image, PIL.Image.Image):
            alpha, array = upright_alpha(image), pil_to_array(upright_srgb(image))
        else:
            array = _tensor_to_array(image) if torch.is_tensor(image) else image
            alpha = alpha_of_array(array)
        pixels = torch.from_numpy(np.array(normalise_array(array))).movedim(-1, 0)
        return _pixels_to_luminance(pixels), alpha

    def as_list(self, image) -> list:
        """One picture, a list, or a batch array (N, H, W, C) or tensor (N, C, H, W), as a list."""
        if isinstance(image, PIL.Image.Image):
            return [image]
        if isinstance(image, np.ndarray) or torch.is_tensor(image):
            return list(image) if image.ndim == 4 else [image]
        if not isinstance(image, list | tuple) or len(image) == 0:
            raise ValueError(
                "`image` is a PIL picture, an array, a tensor or a list of these, "
                f"not {'an empty list' if image in ([], ()) else type(image).__name__}."
            )
        for one in image:
            if not (isinstance(one, PIL.Image.Image | np.ndarray) or torch.is_tensor(one)):
                raise ValueError(
                    f"A picture is PIL, an array or a tensor, not {type(one).__name__}; "
                    "open files with PIL.Image.open."
                )
        return list(image)

    def working_size(self, height: int, width: int, resolution: float) -> tuple[int, int]:
        """Size at which a picture is processed: its short side at `resolution`, in whole strides.

        So the picture fills what the network sees; with a margin beside it, as padding is, colours
        are duller and farther from the truth than in a picture that is a little stretched. 0: the
        picture's own size, in whole strides.
        """
        return fit_size(height, width, resolution, self.stride)

    def preprocess(self, luminance: torch.Tensor, resolution: float) -> torch.Tensor:
        """Bring L* (1, H, W) to its working size, (1, 1, h, w)."""
        height, width = luminance.shape[1:]
        return _resized(luminance, self.working_size(height, width, resolution))[None]

    def preview(self, luminance: torch.Tensor, resolution: float) -> torch.Tensor:
        """Bring the short side of L* (1, H, W) to `resolution`, at its own aspect ratio."""
        height, width = luminance.shape[1:]
        return _resized(luminance, fit_size(height, width, resolution))

    def rasterize_hints(
        self, hints: list[Hint], size: tuple[int, int], resolution: float
    ) -> torch.Tensor:
        """Hints in pixels of the input of `size` (height, width) to (1, 3, h, w) on the grid.

        Channels: a*, b* and the confidence in the cells of a hint; later hints cover earlier.
        """
        height, width = self.working_size(*size, resolution)
        grid = (height // self.chroma_stride, width // self.chroma_stride)
        return torch.from_numpy(draw_hints(hints, size, grid, self.doubtful_hints))

    # --- picture out ----------------------------------------------------------------------------

    def colorize(
        self, luminance: torch.Tensor, chroma: torch.Tensor, seen: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Full-size L* (1, H, W) and chroma a*b* (2, h, w) on the grid to sRGB bytes (H, W, 3).

        `seen` is the L* that decided the colours, where transparency makes it another one.
        """
        result = torch.empty(*luminance.shape[1:], 3, dtype=torch.uint8)
        for rows, rgb in self._merged_rows(luminance, chroma, seen):
            result[rows] = rgb.mul_(255).round_().byte().movedim(0, -1)
        return result

    def colorize_float(
        self, luminance: torch.Tensor, chroma: torch.Tensor, seen: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As `colorize`, but float32 sRGB in [0, 1] (3, H, W)."""
        result = torch.empty(3, *luminance.shape[1:])
        for rows, rgb in self._merged_rows(luminance, chroma, seen):
            result[:, rows] = rgb
        return result

    def resize(self, luminance: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Resize L* (1, H, W) to (height, width)."""
        return _resized(luminance, size)

    def grey(self, luminance: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Turn L* (1, H, W) into grey sRGB in [0, 1] of another size, (3, H', W')."""
        if tuple(luminance.shape[1:]) != size:
            luminance = _resized(luminance, size)
        return self.colorize_float(luminance, torch.zeros(2, 1, 1))

    def _merged_rows(
        self, luminance: torch.Tensor, chroma: torch.Tensor, seen: torch.Tensor | None = None
    ):
        slope, offset = fit_guided_upsampling(luminance if seen is None else seen, chroma)
        down, across = interpolation_matrices(chroma.shape[1:], luminance.shape[1:])
        for rows in row_chunks(*luminance.shape[1:]):
            guide = luminance[:, rows]
            full = down[rows] @ slope @ across * guide + down[rows] @ offset @ across
            yield rows, merge_luminance(guide, full)

    def upsample_chroma(self, luminance: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
        """Bring chroma (C, h, w) to the size of `luminance` (1, H, W), with the edges of L*."""
        slope, offset = fit_guided_upsampling(luminance, chroma)
        down, across = interpolation_matrices(chroma.shape[1:], luminance.shape[1:])
        return down @ slope @ across * luminance + down @ offset @ across

    def visualize_uncertainty(self, uncertainty: np.ndarray | torch.Tensor) -> PIL.Image.Image:
        """Spread of the samples' chroma, (H, W) in units of a*b*, as a picture.

        Black is agreement; through purple and orange to pale yellow at a spread of 30 and above.
        """
        return PIL.Image.fromarray(heat_picture(np.asarray(uncertainty)))


def meet_hints(color: torch.Tensor, hints: torch.Tensor) -> torch.Tensor:
    """Shift colour to what certain hints give; the network alone only comes near.

    What a hint's cell lacks is added to the cells around it as well, less the further they are, so
    that no spot stands out. Hints whose confidence is below 1 are left to the network, which sees
    how far to trust them.

    Args:
        color: (N, 2, h, w), on the grid.
        hints: (N or 1, 3, h, w), in the same units: two channels of colour, and a mask with the
            confidence in the cells of a hint.

    Returns:
        (N, 2, h, w); in the cells of a certain hint, the hint's own colour.
    """
    given, place = hints[:, :2], (hints[:, 2:] >= 1).to(hints)
    shift = _fade((given - color) * place) / _fade(place).clamp(min=1)
    return torch.where(place > 0, given, color + shift)


def _fade(x: torch.Tensor) -> torch.Tensor:
    """Return what is in the cells of hints, over the cells around them as well, (N, C, h, w)."""
    fade = torch.from_numpy(HINT_FADE).to(x)[None, None]
    return F.conv2d(x.flatten(0, 1)[:, None], fade, padding=len(HINT_FADE) // 2).view_as(x)


def lift_texture(
    chroma: torch.Tensor, texture: float, influence: torch.Tensor | None = None
) -> torch.Tensor:
    """Make fine and faint variation of colour up to `texture` times as strong.

    Skin, cloth and petals come out smoother than they are: a network leaves out of its samples what
    it is unsure of, and what several agree on has less of it still. So what a cell differs by from
    those around it is raised, the less the larger it is: an edge gets no halo.

    Args:
        chroma: (N, 2, h, w), a*b* on the grid.
        texture: 1 leaves all as it is.
        influence: (h, w), from `hint_influence`: colours near hints stay as they are.
    """
    if texture == 1:
        return chroma
    fine = chroma - _box(_box(chroma))
    share = (
        (texture - 1)
        * TEXTURE_HALF_POINT**2
        / (TEXTURE_HALF_POINT**2 + fine.square().sum(-3, keepdim=True))
    )
    return chroma + fine * (share if influence is None else share * (1 - influence))


def interpolation_matrices(
    source: Sequence[int], target: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bicubic interpolation as matrices: `down @ x @ across` takes (..., h, w) to (..., H, W).

    Rows of `down` can be taken one part at a time, which interpolating a picture cannot.
    """

    def matrix(size: int, new: int) -> torch.Tensor:
        identity = torch.eye(size)[None, None]
        return F.interpolate(identity, (new, size), mode="bicubic", align_corners=False)[0, 0]

    return matrix(source[0], target[0]), matrix(source[1], target[1]).T.contiguous()


def _box(x: torch.Tensor) -> torch.Tensor:
    """Mean over 3x3 cells, (N, C, h, w)."""
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def fit_guided_upsampling(
    luminance: torch.Tensor, chroma: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit chroma as a locally linear function of luminance: chroma = slope * L* + offset.

    The fast guided filter (He and Sun 2015), fitted on the grid; then the offset is corrected
    twice so that the result, averaged over each cell, gives back the chroma of the cell
    (back-projection, Irani and Peleg 1991). Both are interpolated to full size by the caller, so
    the cost at full size is that of two interpolations.

    Args:
        luminance: (1, H, W), L* of the picture at full size.
        chroma: (C, h, w), on the grid.

    Returns:
        Slope and offset, (C, h, w) each.
    """
    chroma = chroma[None].float()
    rows, columns = chroma.shape[2:]
    detail = (rows * GUIDE_DETAIL, columns * GUIDE_DETAIL)
    guide = F.interpolate(
        luminance[None], detail, mode="bilinear", antialias=True, align_corners=False
    )
    mean = F.avg_pool2d(guide, GUIDE_DETAIL)
    variance = _box(mean * mean) - _box(mean) ** 2
    covariance = _box(mean * chroma) - _box(mean) * _box(chroma)
    slope = covariance / (variance + EVEN_VARIANCE)
    offset = _box(_box(chroma) - slope * _box(mean))
    slope = _box(slope)
    down, across = interpolation_matrices((rows, columns), detail)
    varying = F.avg_pool2d(down @ slope @ across * guide, GUIDE_DETAIL)
    for _ in range(2):
        offset = offset + chroma - varying - F.avg_pool2d(down @ offset @ across, GUIDE_DETAIL)
    return slope[0], offset[0]
