"""A pretrained vision network of transformers in place of the grey encoder. It is not trained.

The file travels to the Hub inside `unet.py`, so it imports only torch, numpy and diffusers;
transformers is loaded by a model that has such a network, and by no other.
"""

import importlib
import json
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

# What most of these networks were trained with, where a folder does not say.
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
# Of a configuration, what says nothing about the network, or where it was on this machine.
_IDLE = ("_name_or_path", "architectures", "dtype", "id2label", "label2id", "transformers_version")


def normalization(transformers, name: str) -> dict[str, list[float]]:
    """Mean and deviation of the pixels that the network of a folder or repository was made for."""
    try:
        said, _ = transformers.ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:
        return _IMAGENET
    return {key: list(said.get(key) or value) for key, value in _IMAGENET.items()}


def backbone_class(config) -> Any:
    """Find the class of transformers for the backbone of a network with that configuration.

    `transformers.AutoBackbone.from_pretrained` asks the Hub even where it is given a folder.
    """
    classes = importlib.import_module("transformers.models.auto.modeling_auto")
    return classes.MODEL_FOR_BACKBONE_MAPPING.get(type(config), None)


def load_backbone(name: str, levels: int) -> tuple[nn.Module, dict]:
    """Load a pretrained network, with the description by which `build_backbone` makes it again.

    Args:
        name: id on the Hub or local folder of a model of which transformers has a backbone.
        levels: feature maps that are wanted; they are spread evenly over its stages.

    Raises:
        ValueError: if transformers has no backbone of that kind.
    """
    transformers = importlib.import_module("transformers")
    config = transformers.AutoConfig.from_pretrained(name)
    kind = backbone_class(config)
    if kind is None:
        raise ValueError(
            f"{name} is a {config.model_type!r}, of which transformers has no vision backbone; "
            "'resnet', 'convnextv2', 'swinv2' and 'dinov2' are some that it has."
        )
    stages = config.stage_names
    chosen = sorted(set(np.linspace(1, len(stages) - 1, levels).round().astype(int).tolist()))
    config.set_output_features_output_indices(None, chosen)
    network = kind.from_pretrained(name, config=config)
    settings = json.loads(config.to_json_string(use_diff=False))
    settings = {key: value for key, value in settings.items() if key not in _IDLE}
    return network, {"config": settings, **normalization(transformers, name)}


def build_backbone(description: dict) -> nn.Module:
    """Build the network that `load_backbone` described; its weights are still to be loaded."""
    transformers = importlib.import_module("transformers")
    config = transformers.AutoConfig.for_model(**description["config"])
    return transformers.AutoBackbone.from_config(config)


class BackboneEncoder(nn.Module):
    """Makes feature maps by a frozen vision network, one for each level.

    The network is always in evaluation mode and gets no gradient; what is trained is a 1x1
    convolution for each level. Its maps go to the levels from the coarsest to the finest; where it
    has fewer, the finer levels share its first. It sees the picture at a quarter of its size or
    less, so a 3x3 convolution of the luminance itself is added at the finest level.

    Args:
        backbone: id or folder of a pretrained network, or the `description` of another encoder.
        widths: channels of the feature maps, by level.
        grid_channels: of the condition on the finest level.
    """

    def __init__(self, backbone: str | dict, widths: list[int], grid_channels: int):
        super().__init__()
        self.backbone: Any  # a network of transformers, which is loaded when it is used
        if isinstance(backbone, str):
            self.backbone, self.description = load_backbone(backbone, len(widths))
        else:
            self.backbone, self.description = build_backbone(backbone), backbone
        self.backbone.eval().requires_grad_(False)
        channels = self.backbone.channels
        spare = len(channels) - len(widths)
        self.sources = [max(spare + level, 0) for level in range(len(widths))]
        self.projections = nn.ModuleList(
            nn.Conv2d(channels[i], width, 1) for i, width in zip(self.sources, widths, strict=True)
        )
        self.detail = nn.Conv2d(grid_channels, widths[0], 3, padding=1)
        self.context_channels = channels[-1]

    def train(self, mode: bool = True):
        """Set the mode as for any module; the backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    @torch.no_grad()
    def _maps(self, luminance: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # L* is within .04 of the sRGB curve, so L/100 passes for the grey of a picture file.
        mean, std = (
            luminance.new_tensor(self.description[key]).view(1, -1, 1, 1)
            for key in ("image_mean", "image_std")
        )
        maps = self.backbone(((luminance + 1) / 2 - mean) / std).feature_maps
        # Their scale differs from network to network.
        return tuple(F.group_norm(one, 1) for one in maps)

    def forward(
        self, luminance: torch.Tensor, grid: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Compute features by level, and the network's last map (B, context_channels, ., .).

        Args:
            luminance: (B, 1, H, W) in [-1, 1], in full.
            grid: (B, grid_channels, h, w), the condition on the finest level.
        """
        maps = self._maps(luminance)
        features = []
        for level, projection in enumerate(self.projections):
            size = [side // 2**level for side in grid.shape[2:]]
            projected = projection(maps[self.sources[level]])
            features.append(F.interpolate(projected, size, mode="bilinear"))
        features[0] = features[0] + self.detail(grid)
        return tuple(features), maps[-1]
