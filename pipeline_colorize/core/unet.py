"""The noise-conditional U-Net that invents colour for a given luminance.

The file travels to the Hub with the weights, so it imports only torch, numpy and diffusers; its one
sibling is written into it.
"""

import math
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn
from torch.nn import functional as F

from .backbone import BackboneEncoder


@dataclass
class ColorizationUNetOutput(BaseOutput):
    """What the network predicts.

    Args:
        sample (`torch.Tensor` of shape `(batch, channels, height, width)`):
            Noise, velocity or clean colour, as the scheduler's `prediction_type` says.
    """

    sample: torch.Tensor


class NoiseVarianceEmbedding(nn.Module):
    """32 sines and cosines of the noise variance of an offset cosine schedule.

    Frequencies are log-spaced from 1 to 1000 (Foster, Generative Deep Learning, 2nd edition,
    chapter 8). Maps timesteps (B,) to (B, dim).
    """

    def __init__(self, dim, num_train_timesteps, max_signal_rate, min_signal_rate):
        super().__init__()
        self.start = math.acos(max_signal_rate)
        self.slope = (math.acos(min_signal_rate) - self.start) / (num_train_timesteps - 1)
        self.frequencies = 2 * math.pi * torch.logspace(0, 3, dim // 2)

    def forward(self, timestep):
        """Embed timesteps (B,) as (B, dim)."""
        variance = torch.sin(self.start + self.slope * timestep.float()) ** 2
        angles = variance[:, None] * self.frequencies.to(timestep.device)
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class TimestepEmbedding(nn.Module):
    """Sines and cosines of the timestep, then two linear layers. Maps (B,) to (B, dim)."""

    def __init__(self, dim, num_train_timesteps):
        super().__init__()
        self.scale = 1000 / num_train_timesteps
        self.frequencies = torch.exp(-math.log(10000) * torch.arange(32) / 32)
        self.mlp = nn.Sequential(nn.Linear(64, dim), nn.SiLU(), nn.Linear(dim, dim), nn.SiLU())

    def forward(self, timestep):
        """Embed timesteps (B,) as (B, dim)."""
        angles = self.scale * timestep.float()[:, None] * self.frequencies.to(timestep.device)
        embedding = torch.cat([angles.sin(), angles.cos()], dim=1)
        return self.mlp(embedding.to(self.mlp[0].weight.dtype))


def make_norm(kind: str, channels: int, groups: int) -> nn.Module:
    """Make the normalisation of a block: "batch" or "group"."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(groups, channels)


class PlainResidualBlock(nn.Module):
    """BatchNorm, 3x3 convolution, SiLU, 3x3 convolution, plus the input."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x, embedding=None):
        """Map (B, C, H, W) to as many pixels; the embedding plays no part."""
        return self.shortcut(x) + self.conv2(F.silu(self.conv1(self.norm(x))))


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions plus the input, the second scaled and shifted by the time.

    Norm, SiLU and convolution in the order of Dhariwal and Nichol 2021 (appendix A). Without
    `time_channels` it is the block of the grey encoder, which knows no time.
    """

    def __init__(self, in_channels, out_channels, groups, time_channels=None):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.time = nn.Linear(time_channels, 2 * out_channels) if time_channels else None
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)
        # Each block starts as its shortcut, which lets a deep stack learn from the first step.
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x, embedding=None):
        """Map (B, C, H, W) to as many pixels, with the embedding (B, dim) of the timestep."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.norm2(h)
        if self.time is not None:
            scale, shift = self.time(embedding)[:, :, None, None].chunk(2, dim=1)
            h = torch.addcmul(shift, h, scale + 1)
        return self.shortcut(x) + self.conv2(F.silu(h))


class SelfAttention(nn.Module):
    """Multi-head self-attention over all positions, plus the input. Keeps (B, C, H, W)."""

    def __init__(self, channels, groups, head_dim=32):
        super().__init__()
        self.heads = max(channels // head_dim, 1)
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x, embedding=None):
        """Map (B, C, H, W) to the same shape; the embedding plays no part."""
        batch, channels, height, width = x.shape
        # (B, 3C, H, W) -> 3 of (B, heads, H*W, C/heads)
        qkv = self.qkv(self.norm(x)).view(batch, 3, self.heads, -1, height * width)
        query, key, value = qkv.transpose(-1, -2).unbind(1)
        h = F.scaled_dot_product_attention(query, key, value)
        return x + self.out(h.transpose(-1, -2).reshape(batch, channels, height, width))


class CrossAttention(nn.Module):
    """Attention of all positions to those of another map, plus the input. Keeps (B, C, H, W)."""

    def __init__(self, channels, context_channels, groups, head_dim=32):
        super().__init__()
        self.heads = max(channels // head_dim, 1)
        self.norm = nn.GroupNorm(groups, channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key_value = nn.Conv2d(context_channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x, context):
        """Map (B, C, H, W) to the same shape, with a look at the context (B, D, h, w)."""
        # (B, C, H, W) -> (B, heads, H*W, C/heads); the context likewise, twice
        query = self.query(self.norm(x)).unflatten(1, (self.heads, -1)).flatten(3)
        pair = self.key_value(context).unflatten(1, (2, self.heads, -1)).flatten(4)
        key, value = pair.transpose(-1, -2).unbind(1)
        h = F.scaled_dot_product_attention(query.transpose(-1, -2), key, value)
        return x + self.out(h.transpose(-1, -2).reshape(x.shape))


def to_chroma_grid(condition: torch.Tensor, luminance_channels: int, stride: int) -> torch.Tensor:
    """Condition (B, K, H, W) on a grid `stride` times coarser, without loss of luminance.

    Luminance is pixel-unshuffled (Shi et al. 2016); hints, constant over a cell, are averaged.
    """
    if stride == 1:
        return condition
    # (B, K, H, W) -> (B, K*s*s, H/s, W/s)
    grid = F.pixel_unshuffle(condition[:, :luminance_channels], stride)
    hints = condition[:, luminance_channels:]
    return torch.cat([grid, F.avg_pool2d(hints, stride)], dim=1) if hints.shape[1] else grid


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and projection (Sandler et al. 2018).

    Without normalisation: that of a pretrained network is folded into its convolutions.
    """

    def __init__(self, in_channels, out_channels, expansion, kernel, stride):
        super().__init__()
        inner = in_channels * expansion
        self.expand = nn.Conv2d(in_channels, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = nn.Conv2d(inner, inner, kernel, stride, kernel // 2, groups=inner)
        self.project = nn.Conv2d(inner, out_channels, 1)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x):
        """Map (B, C, H, W) to the block's channels, at its stride."""
        h = F.relu6(self._filter(F.relu6(self.expand(x))))
        return x + self.project(h) if self.adds else self.project(h)

    def _filter(self, x):
        if x.device.type != "cpu" or not x.requires_grad:
            return self.depthwise(x)
        # On a CPU its backward pass takes up to seven times as long in bf16 as in full precision.
        with torch.autocast("cpu", enabled=False):
            return self.depthwise(x.to(self.depthwise.weight.dtype))


class Trunk(nn.Module):
    """Feature maps of the luminance by a small classifier, such as EfficientNet-Lite0 (Tan 2020).

    Args:
        stages: (expansion, kernel, width, blocks, stride) of each; before the first comes a
            convolution of stride 2 with 32 channels.
        stride: luminance pixels to a cell of the first map, along one side.
        levels: maps that are wanted, each half the size of the one before.
        frozen: stages, with the first convolution, that training leaves as they are.
        scale: how many times as large it sees the luminance; such networks learned from pictures
            of 224 pixels and more.
    """

    def __init__(self, stages, stride, levels, frozen, scale):
        super().__init__()
        self.scale = scale
        self.conv_in = nn.Conv2d(1, 32, 3, 2, 1)
        self.stages = nn.ModuleList()
        previous, reached, widths = 32, 2, {}
        self.reached = []  # input pixels to a cell of what each stage returns
        for expansion, kernel, width, blocks, step in stages:
            self.stages.append(nn.ModuleList())
            for block in range(blocks):
                shape = (previous, width, expansion, kernel, step if block == 0 else 1)
                self.stages[-1].append(InvertedResidual(*shape))
                previous = width
            reached *= step
            self.reached.append(reached)
            widths[reached] = width
        self.wanted = [scale * stride * 2**level for level in range(levels)]
        if self.wanted[0] not in widths:
            raise ValueError(f"The stages of a trunk come to {list(widths)}, not {self.wanted[0]}.")
        self.channels = [widths.get(size, previous) for size in self.wanted]
        for part in [self.conv_in, *self.stages][: frozen + 1 if frozen else 0]:
            part.requires_grad_(False)

    def forward(self, luminance: torch.Tensor) -> list[torch.Tensor]:
        """Turn (B, 1, H, W) in [-1, 1] into maps (B, C, H / stride, W / stride) and halvings."""
        x = luminance
        if self.scale > 1:
            x = F.interpolate(x, scale_factor=self.scale, mode="bilinear")
        # Depthwise convolutions are up to four times as fast in this format.
        x = F.relu6(self.conv_in(x)).contiguous(memory_format=torch.channels_last)
        last: dict[int, torch.Tensor] = {}  # of each size
        maps: list[torch.Tensor] = []
        for reached, blocks in zip(self.reached, self.stages, strict=True):
            for block in blocks:
                x = block(x)
            last[reached] = x
        for size in self.wanted:
            maps.append(last[size] if size in last else F.avg_pool2d(maps[-1], 2))
        return maps


class GreyEncoder(nn.Module):
    """First half of a U-Net over the luminance (and hints): one feature map a level.

    It knows neither time nor noise, so one run serves every step and every sample of a picture.
    """

    def __init__(self, in_channels, widths, layers_per_block, groups, trunk=None):
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.levels = nn.ModuleList()
        if isinstance(layers_per_block, int):
            layers_per_block = [layers_per_block] * len(widths)
        previous = widths[0]
        for level, (width, layers) in enumerate(zip(widths, layers_per_block, strict=True)):
            blocks = [ResidualBlock(previous, width, groups)]
            blocks += [ResidualBlock(width, width, groups) for _ in range(layers - 1)]
            if level == len(widths) - 1:
                blocks.insert(max(layers - 1, 1), SelfAttention(width, groups))
            self.levels.append(nn.ModuleList(blocks))
            previous = width
        self.trunk = trunk
        if trunk is not None:
            self.projections = nn.ModuleList(
                nn.Conv2d(channels, width, 1)
                for channels, width in zip(trunk.channels, widths, strict=True)
            )
            for projection in self.projections:
                nn.init.zeros_(projection.weight)
                nn.init.zeros_(projection.bias)

    def forward(self, x, luminance=None):
        """Read (B, in_channels, h, w) on the grid; a trunk, the luminance (B, 1, H, W) in full."""
        h = self.conv_in(x)
        maps = [] if self.trunk is None else self.trunk(luminance)
        features = []
        for level, blocks in enumerate(self.levels):
            h = h if level == 0 else F.avg_pool2d(h, 2)
            for index, block in enumerate(blocks):
                h = block(h)
                if maps and index == 0:
                    h = h + self.projections[level](maps[level])
            features.append(h)
        return tuple(features)


class ColorizationUNet(ModelMixin, ConfigMixin):
    r"""U-Net that predicts noise, velocity or clean colour from noisy colour and luminance.

    Three layouts, all by configuration:

    - *seed* (the defaults): RGB is noised, `block="plain"`, `time_embedding="variance"`;
      1,955,331 parameters.
    - *Lab*: chroma is noised (`sample_channels=2`), with a grey encoder whose feature maps are
      concatenated along the down path (`encoder_block_out_channels`). A frozen pretrained network
      can take the encoder's place (`encoder_backbone`), and the bottleneck can attend to what it
      saw (`cross_attention`); or one stands beside the encoder and learns (`encoder_trunk`).
    - *chroma grid*: chroma lives on a grid `chroma_stride` times coarser than the luminance, which
      is pixel-unshuffled onto that grid (Shi et al. 2016), so that none of its detail is lost.

    With `hint_channels=3` the condition carries three more channels behind the luminance: the
    scaled a*, b* of the hints and their confidence, 0 where nothing is given, each constant over a
    cell of the chroma grid.

    >>> unet = ColorizationUNet(sample_channels=2, chroma_stride=4).eval()
    >>> noisy, luminance = torch.randn(1, 2, 32, 40), torch.zeros(1, 1, 128, 160)
    >>> unet(noisy, 999, luminance).sample.shape
    torch.Size([1, 2, 32, 40])
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["PlainResidualBlock", "ResidualBlock", "SelfAttention", "CrossAttention"]
    _repeated_blocks = ["PlainResidualBlock", "ResidualBlock"]
    _skip_layerwise_casting_patterns = ["time_proj", "norm"]

    @register_to_config
    def __init__(
        self,
        sample_channels: int = 3,  # colour channels, noisy in and predicted out
        condition_channels: int = 1,  # luminance
        hint_channels: int = 0,  # 3: scaled a*, b*, confidence
        doubtful_hints: bool = False,  # whether it learned that hints may be wrong
        block_out_channels: tuple[int, ...] = (32, 64, 96, 128),  # the last is the bottleneck
        layers_per_block: int = 2,  # residual blocks a level, on the way down and up
        block: str = "plain",  # "plain" (BatchNorm) or "scale_shift" (GroupNorm)
        norm_num_groups: int = 8,  # of "scale_shift"
        attention: bool = False,  # self-attention in the bottleneck
        time_embedding: str = "variance",  # "variance" is concatenated, "timestep" goes to blocks
        time_embedding_dim: int = 32,  # channels of the embedding
        num_train_timesteps: int = 1000,  # T of the schedule
        max_signal_rate: float = 0.95,  # of the schedule, for "variance"
        min_signal_rate: float = 0.02,  # of the schedule, for "variance"
        chroma_stride: int = 1,  # luminance pixels to a cell of the sample, along one side
        encoder_block_out_channels: tuple[int, ...] | None = None,  # the grey encoder's widths
        encoder_layers_per_block: int | tuple[int, ...] = 2,  # its residual blocks, of each level
        encoder_trunk: list | None = None,  # a classifier beside it: see `Trunk`
        encoder_trunk_frozen: int = 0,  # stages of it that training leaves as they are
        encoder_trunk_scale: int = 2,  # how many times as large it sees the luminance
        encoder_backbone: str | dict | None = None,  # its pretrained stand-in: id, folder; as saved
        cross_attention: bool = False,  # of the bottleneck, to the last map of the backbone
        ab_scale: float = 110.0,  # chroma is divided by this; the pipeline reads it
    ):
        super().__init__()
        self._check_config()
        widths = tuple(block_out_channels)
        self.time_proj: nn.Module
        if time_embedding == "variance":
            self.time_proj = NoiseVarianceEmbedding(
                time_embedding_dim, num_train_timesteps, max_signal_rate, min_signal_rate
            )
        else:
            self.time_proj = TimestepEmbedding(time_embedding_dim, num_train_timesteps)

        grid_channels = condition_channels * chroma_stride**2 + hint_channels
        if encoder_block_out_channels is None:
            self.encoder = None
            in_channels, extra = sample_channels + grid_channels, [0] * len(widths)
        else:
            self.encoder = self._make_encoder(grid_channels)
            in_channels, extra = sample_channels, list(encoder_block_out_channels)
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        if time_embedding == "variance":
            extra[0] += time_embedding_dim
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        previous = widths[0]
        for width, more in zip(widths[:-1], extra[:-1], strict=True):
            self.down_blocks.append(self._level(previous + more, width, width))
            previous = width
        self.mid_block = self._level(previous + extra[-1], widths[-1], widths[-1])
        middle = max(layers_per_block - 1, 1)
        if cross_attention and self.encoder is not None:
            context = (self.encoder.context_channels, norm_num_groups)
            self.mid_block.insert(middle, CrossAttention(widths[-1], *context))
        if attention:
            self.mid_block.insert(middle, SelfAttention(widths[-1], norm_num_groups))
        previous = widths[-1]
        for width in reversed(widths[:-1]):
            self.up_blocks.append(self._level(previous + width, 2 * width, width))
            previous = width
        self.conv_out = nn.Conv2d(widths[0], sample_channels, 3, padding=1)
        self.gradient_checkpointing = False

    def _make_encoder(self, grid_channels: int) -> nn.Module:
        config = self.config
        widths = list(config.encoder_block_out_channels)
        if config.encoder_backbone is None:
            trunk = None
            if config.encoder_trunk is not None:
                how = (config.encoder_trunk_frozen, config.encoder_trunk_scale)
                trunk = Trunk(config.encoder_trunk, config.chroma_stride, len(widths), *how)
            blocks = (config.encoder_layers_per_block, config.norm_num_groups)
            return GreyEncoder(grid_channels, widths, *blocks, trunk)
        encoder = BackboneEncoder(config.encoder_backbone, widths, grid_channels)
        # What is saved needs neither the folder nor the Hub.
        self.register_to_config(encoder_backbone=encoder.description)
        return encoder

    def _level(self, first_in: int, later_in: int, width: int) -> nn.ModuleList:
        config = self.config
        inputs = [first_in] + [later_in] * (config.layers_per_block - 1)
        if config.block == "plain":
            return nn.ModuleList([PlainResidualBlock(channels, width) for channels in inputs])
        groups, dim = config.norm_num_groups, config.time_embedding_dim
        return nn.ModuleList([ResidualBlock(channels, width, groups, dim) for channels in inputs])

    def _check_config(self) -> None:
        config = self.config
        if config.block not in ("plain", "scale_shift"):
            raise ValueError(f"`block` is 'plain' or 'scale_shift', not {config.block!r}.")
        wanted = "variance" if config.block == "plain" else "timestep"
        if config.time_embedding != wanted:
            raise ValueError(
                f"`block={config.block!r}` goes with `time_embedding={wanted!r}`, "
                f"not {config.time_embedding!r}."
            )
        if config.hint_channels not in (0, 3):
            raise ValueError(
                f"`hint_channels` is 0 or 3 (a*, b*, mask), not {config.hint_channels}."
            )
        encoder = config.encoder_block_out_channels
        if encoder is not None and len(encoder) != len(config.block_out_channels):
            raise ValueError(
                f"`encoder_block_out_channels` needs one width a level, "
                f"{len(config.block_out_channels)}, but has {len(encoder)}."
            )
        if config.encoder_backbone is not None and encoder is None:
            raise ValueError(
                "`encoder_backbone` needs `encoder_block_out_channels`, the channels that its "
                "features are brought to, one a level."
            )
        layers = config.encoder_layers_per_block
        if encoder is not None and not isinstance(layers, int) and len(layers) != len(encoder):
            raise ValueError(
                f"`encoder_layers_per_block` is one number, or one a level, {len(encoder)}, not "
                f"{len(layers)}."
            )
        if config.encoder_trunk is not None and (encoder is None or config.encoder_backbone):
            raise ValueError(
                "`encoder_trunk` stands beside a grey encoder: it needs "
                "`encoder_block_out_channels` and no `encoder_backbone`."
            )
        if config.cross_attention and config.encoder_backbone is None:
            raise ValueError("`cross_attention` is to the features of an `encoder_backbone`.")

    @property
    def stride(self) -> int:
        """Height and width of a condition are multiples of this many luminance pixels."""
        return self.config.chroma_stride * 2 ** (len(self.config.block_out_channels) - 1)

    @apply_forward_hook  # `enable_model_cpu_offload` moves a network in its forward pass only
    def encode(self, condition: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Everything that depends on the condition alone, to be computed once a picture.

        Args:
            condition: (B, condition_channels + hint_channels, H, W): luminance L/50 - 1 in [-1, 1],
                then, where the model has them, the hint channels.

        Returns:
            Feature maps on the chroma grid and its halvings, and the map that is attended to, if
            there is one; `forward` takes them for `condition`.
        """
        config = self.config
        channels = config.condition_channels + config.hint_channels
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
        grid = to_chroma_grid(condition, config.condition_channels, config.chroma_stride)
        if self.encoder is None:
            return (grid,)
        grid = self._memory_format(grid)
        if config.encoder_backbone is None:
            return self.encoder(grid, condition[:, :1])
        features, last_map = self.encoder(condition[:, :1], grid)
        return (*features, last_map) if config.cross_attention else features

    def _memory_format(self, x: torch.Tensor) -> torch.Tensor:
        """Bring `x` to the memory format of the weights: mixing the two costs a copy a layer."""
        if self.conv_in.weight.is_contiguous(memory_format=torch.channels_last):
            return x.contiguous(memory_format=torch.channels_last)
        return x

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float | int,
        condition: torch.Tensor | tuple[torch.Tensor, ...],
        return_dict: bool = True,
    ) -> ColorizationUNetOutput | tuple[torch.Tensor]:
        """Predict noise, velocity or clean colour.

        Args:
            sample: (B * n, sample_channels, h, w), noisy colour, with h = H / chroma_stride; n
                samples a picture, those of one picture side by side.
            timestep: scalar or (B * n,), 0 (hardly any noise) to `num_train_timesteps - 1`.
            condition: (B, K, H, W), or the features that `encode` made of it.
            return_dict: `False` for a plain tuple.

        Raises:
            ValueError: for channels or sizes that do not fit, saying which would.
        """
        features = self.encode(condition) if torch.is_tensor(condition) else condition
        features = self._match(features, sample)
        timestep = torch.as_tensor(timestep, device=sample.device).expand(sample.shape[0])
        embedding = self.time_proj(timestep).to(sample.dtype)
        last_map = None
        if self.config.cross_attention:
            *features, last_map = features

        if self.encoder is None:
            h = self.conv_in(self._memory_format(torch.cat([sample, features[0]], dim=1)))
            features = [None] * len(self.config.block_out_channels)
        else:
            h = self.conv_in(self._memory_format(sample))
        if self.config.time_embedding == "variance":
            # (B, D) -> (B, D, h, w)
            h = torch.cat([h, embedding[:, :, None, None].expand(-1, -1, *h.shape[2:])], dim=1)

        skips = []
        for blocks, feature in zip(self.down_blocks, features[:-1], strict=True):
            h = h if feature is None else torch.cat([h, feature.to(h.dtype)], dim=1)
            for block in blocks.children():
                h = self._run(block, h, embedding)
                skips.append(h)
            h = F.avg_pool2d(h, 2)
        h = h if features[-1] is None else torch.cat([h, features[-1].to(h.dtype)], dim=1)
        for block in self.mid_block:
            context = last_map if isinstance(block, CrossAttention) else embedding
            h = self._run(block, h, context)
        for blocks in self.up_blocks:
            h = F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=False)
            for block in blocks.children():
                h = self._run(block, torch.cat([h, skips.pop()], dim=1), embedding)
        prediction = self.conv_out(h)
        return ColorizationUNetOutput(prediction) if return_dict else (prediction,)

    def _match(
        self, features: tuple[torch.Tensor, ...], sample: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return the features of each picture, repeated for each of its samples."""
        pictures, _, height, width = features[0].shape
        repeats = max(sample.shape[0] // pictures, 1)
        wanted = (pictures * repeats, self.config.sample_channels, height, width)
        if tuple(sample.shape) != wanted:
            raise ValueError(
                f"`sample` must be {wanted} for this condition, not {tuple(sample.shape)}."
            )
        if repeats == 1:
            return features
        return tuple(feature.repeat_interleave(repeats, 0) for feature in features)

    def _run(self, block: nn.Module, *args: torch.Tensor | None) -> torch.Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(block, *args)
        return block(*args)
