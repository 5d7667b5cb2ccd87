"""A grey autoencoder: pretraining for the grey encoder of a `ColorizationUNet`."""

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import nn
from torch.nn import functional as F

from pipeline_colorize.core.unet import GreyEncoder, ResidualBlock, to_chroma_grid


class GreyAutoencoder(ModelMixin, ConfigMixin):
    r"""Reconstructs luminance from the coarsest feature map of a grey encoder.

    Nothing but that map reaches the decoder, so what a picture shows has to pass through every
    level of the encoder. Where its input is worn and its target is not, it is a denoising
    autoencoder (Vincent et al. 2008).

    Its arguments have the names that they have in `ColorizationUNet`, whose encoder it pretrains:
    the same values make an encoder with the same weights.

    >>> network = GreyAutoencoder(encoder_block_out_channels=(8, 16, 32)).eval()
    >>> network(None, None, torch.zeros(1, 1, 64, 64)).sample.shape
    torch.Size([1, 1, 64, 64])
    """

    @register_to_config
    def __init__(
        self,
        sample_channels: int = 1,  # the luminance; always 1
        condition_channels: int = 1,  # luminance
        hint_channels: int = 0,  # 3: scaled a*, b*, confidence
        encoder_block_out_channels: tuple[int, ...] = (32, 64, 96, 128),  # the last is the code
        encoder_layers_per_block: int = 2,  # residual blocks a level of the encoder; the decoder: 1
        norm_num_groups: int = 8,  # of all blocks
        chroma_stride: int = 1,  # luminance is given back on a grid so much coarser
    ):
        super().__init__()
        widths = list(encoder_block_out_channels)
        grid_channels = condition_channels * chroma_stride**2 + hint_channels
        self.encoder = GreyEncoder(grid_channels, widths, encoder_layers_per_block, norm_num_groups)
        self.decoder, previous = nn.ModuleList(), widths[-1]
        for width in reversed(widths[:-1]):
            self.decoder.append(ResidualBlock(previous, width, norm_num_groups))
            previous = width
        self.conv_out = nn.Conv2d(previous, sample_channels, 3, padding=1)

    def forward(
        self,
        sample: torch.Tensor | None,
        timestep: torch.Tensor | float | int | None,
        condition: torch.Tensor,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[torch.Tensor]:
        """Reconstruct the luminance of `condition`.

        Args:
            sample: ignored; it is here so that all networks are called in the same way.
            timestep: ignored.
            condition: (B, condition_channels + hint_channels, H, W), luminance in [-1, 1], hints.
            return_dict: `False` for a plain tuple.

        Returns:
            `sample` (B, 1, H / chroma_stride, W / chroma_stride).
        """
        config = self.config
        grid = to_chroma_grid(condition, config.condition_channels, config.chroma_stride)
        h = self.encoder(grid)[-1]
        for block in self.decoder:
            h = block(F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=False))
        prediction = self.conv_out(h)
        return UNet2DOutput(prediction) if return_dict else (prediction,)
