"""A U-Net that maps luminance to colour in one pass, without noise.

The file travels to the Hub with the weights, so it imports only torch, numpy and diffusers.
"""

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import nn
from torch.nn import functional as F


class DoubleConvolution(nn.Sequential):
    """Twice a 3x3 convolution, BatchNorm and ReLU. Keeps height and width."""

    def __init__(self, in_channels, out_channels):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class UpBlock(nn.Module):
    """Bilinear upsampling by 2, a 1x1 convolution, the skip beside it, a double convolution."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.project = nn.Conv2d(in_channels, out_channels, 1)
        self.convolve = DoubleConvolution(2 * out_channels, out_channels)

    def forward(self, x, skip):
        """Enlarge (B, C, h, w) twice and join it with the skip (B, C', 2h, 2w)."""
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.convolve(torch.cat([skip, self.project(x)], dim=1))


class RegressionUNet(ModelMixin, ConfigMixin):
    r"""U-Net that predicts chroma from luminance in one pass (Ronneberger et al. 2015).

    On the way down, the skip is what a double convolution gives before it is max-pooled, so that
    the way up sees every level at its full sharpness. For a pipeline without a scheduler: the
    squared error makes it predict the mean of the colours that are possible, which is the best
    that one answer can do on that measure, and paler than any of them.

    >>> network = RegressionUNet(block_out_channels=(8, 16, 32)).eval()
    >>> network(None, None, torch.zeros(1, 1, 64, 96)).sample.shape
    torch.Size([1, 2, 64, 96])
    """

    @register_to_config
    def __init__(
        self,
        sample_channels: int = 2,  # colour channels out: 2 is a*, b*, 3 is RGB
        condition_channels: int = 1,  # luminance
        block_out_channels: tuple[int, ...] = (64, 128, 256, 512),  # the last is the bottleneck
        ab_scale: float = 110.0,  # chroma is divided by this; the pipeline reads it
    ):
        super().__init__()
        widths, previous = list(block_out_channels), condition_channels
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        for width in widths[:-1]:
            self.down_blocks.append(DoubleConvolution(previous, width))
            previous = width
        self.mid_block = DoubleConvolution(previous, widths[-1])
        previous = widths[-1]
        for width in reversed(widths[:-1]):
            self.up_blocks.append(UpBlock(previous, width))
            previous = width
        self.conv_out = nn.Conv2d(widths[0], sample_channels, 1)

    @property
    def stride(self) -> int:
        """Height and width of a condition are multiples of this many pixels."""
        return 2 ** (len(self.config.block_out_channels) - 1)

    def forward(
        self,
        sample: torch.Tensor | None,
        timestep: torch.Tensor | float | int | None,
        condition: torch.Tensor,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[torch.Tensor]:
        """Predict colour.

        Args:
            sample: not looked at; here so that the network is called as one that denoises.
            timestep: likewise.
            condition: (B, condition_channels, H, W), luminance L/50 - 1 in [-1, 1].
            return_dict: `False` for a plain tuple.

        Returns:
            `sample` (B, sample_channels, H, W): a*, b* divided by `ab_scale`, or RGB in [-1, 1].

        Raises:
            ValueError: for channels or sizes that do not fit, saying which would.
        """
        self._check(condition)
        h, skips = condition, []
        for block in self.down_blocks:
            skips.append(block(h))
            h = F.max_pool2d(skips[-1], 2)
        h = self.mid_block(h)
        for block in self.up_blocks:
            h = block(h, skips.pop())
        prediction = self.conv_out(h)
        return UNet2DOutput(prediction) if return_dict else (prediction,)

    def _check(self, condition: torch.Tensor) -> None:
        channels = self.config.condition_channels
        if condition.ndim != 4 or condition.shape[1] != channels:
            raise ValueError(
                f"`condition` must be (batch, {channels}, height, width), "
                f"not {tuple(condition.shape)}."
            )
        if condition.shape[2] % self.stride or condition.shape[3] % self.stride:
            raise ValueError(
                f"Height and width of `condition` must be multiples of {self.stride}, "
                f"not {tuple(condition.shape[2:])}."
            )
