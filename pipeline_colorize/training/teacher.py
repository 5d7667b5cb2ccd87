"""A pretrained vision network that teaches the grey encoder what is in a picture.

The teacher sees the picture in colour, and the encoder learns to predict the teacher's feature maps
from the luminance, beside its task of colouring (feature distillation, Romero et al. 2015; between
kinds of images, Gupta et al. 2016). A network that was trained on a million labelled pictures can
tell skies, dogs and roses apart, which helps to colour them. Nothing of it is released.
"""

import importlib
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from pipeline_colorize.core.backbone import backbone_class, normalization


class Teacher(nn.Module):
    """The two coarsest feature maps of a frozen network.

    Args:
        name: id on the Hub or local folder of a vision model of transformers whose backbone or
            hidden states are feature maps (B, C, h, w).

    Raises:
        ValueError: if they are not.
    """

    image_mean: torch.Tensor
    image_std: torch.Tensor

    def __init__(self, name: str):
        super().__init__()
        transformers = importlib.import_module("transformers")
        config = transformers.AutoConfig.from_pretrained(name)
        kind: Any = backbone_class(config)
        self.is_backbone = kind is not None
        if self.is_backbone:
            config.set_output_features_output_indices(None, [-2, -1])
        self.network = (kind or transformers.AutoModel).from_pretrained(name, config=config)
        self.network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        for key, value in normalization(transformers, name).items():
            self.register_buffer(key, torch.tensor(value).view(1, 3, 1, 1))
        maps = []
        if self.network.main_input_name == "pixel_values":
            side = getattr(config, "image_size", 64)
            maps = self(torch.zeros(1, 3, side, side, dtype=torch.uint8))
        if len(maps) < 2 or any(features.ndim != 4 for features in maps):
            raise ValueError(
                f"{name} is a {config.model_type!r} and gives no feature maps to learn from; "
                "'resnet', 'efficientnet', 'convnextv2' and 'dinov2' do, for example."
            )
        self.channels = [features.shape[1] for features in maps]

    def train(self, mode: bool = True):
        """Set the mode as in any module, but keep the pretrained network in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    @torch.no_grad()
    def forward(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        """Compute feature maps (B, C, h, w), the finer first.

        Args:
            pictures: (B, 3, H, W), RGB in 0 to 255.
        """
        values = (pictures / 255 - self.image_mean) / self.image_std
        if self.is_backbone:
            return list(self.network(values).feature_maps)
        states = self.network(values, output_hidden_states=True).hidden_states
        by_size = {state.shape[2:]: state for state in states}  # the last of each size
        return list(by_size.values())[-2:]


class TeacherHeads(nn.Module):
    """Linear predictions of a teacher's feature maps from those of the grey encoder.

    Args:
        widths: channels of the encoder's maps.
        channels: of the teacher's.
    """

    def __init__(self, widths: list[int], channels: list[int]):
        super().__init__()
        self.guesses = nn.ModuleList(nn.Conv2d(sum(widths), count, 1) for count in channels)

    def forward(self, features: tuple[torch.Tensor, ...], maps: list[torch.Tensor]) -> torch.Tensor:
        """Return the squared error as a share of the variance in the batch, (B,).

        Args:
            features: (B, width, h, w), the encoder's, by level.
            maps: (B, channels, h, w), the teacher's.
        """
        losses = []
        for guess, wanted in zip(self.guesses, maps, strict=True):
            size = wanted.shape[2:]
            seen = torch.cat([_resize(level, size) for level in features], dim=1)
            # Each channel of the teacher counts as much as any other.
            wanted = F.batch_norm(wanted.float(), None, None, training=True)
            losses.append((guess(seen).float() - wanted).square().mean((1, 2, 3)))
        return torch.stack(losses).mean(0)


def _resize(features: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """Resize a map: average its cells where there are more than wanted, else interpolate."""
    if features.shape[2] > size[0]:
        return F.adaptive_avg_pool2d(features, (size[0], size[1]))
    return F.interpolate(features, size, mode="bilinear", align_corners=False)


class Distillation:
    """The error of a network's encoder in predicting its teacher's feature maps.

    A hook takes the encoder's features, so that the pass that learns to colour serves both.

    Args:
        network: a network with a grey encoder that learns.
        name: of the `Teacher`.

    Raises:
        ValueError: if the network has no encoder that learns, or there is no teacher of that name.
    """

    def __init__(self, network: Any, name: str):
        widths = network.config.get("encoder_block_out_channels")
        if not widths or network.config.get("encoder_backbone"):
            raise ValueError(
                "A `teacher` needs an encoder that learns: a ColorizationUNet with "
                "`encoder_block_out_channels` and without `encoder_backbone`."
            )
        self.teacher = Teacher(name)
        self.heads = TeacherHeads(list(widths), self.teacher.channels)
        self.features: tuple[torch.Tensor, ...] | None = None
        network.encoder.register_forward_hook(self._listen)

    def _listen(self, encoder: nn.Module, _, features: tuple[torch.Tensor, ...]) -> None:
        if torch.is_grad_enabled():  # guidance runs the encoder, too, without learning
            self.features = features

    def losses(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the error in the last forward pass, (B,); 0 where there was no luminance.

        Raises:
            RuntimeError: if there was no forward pass with gradients since the last call.
        """
        features, self.features = self.features, None
        if features is None:
            raise RuntimeError("The encoder has not run with gradients since the last call.")
        seen = batch["condition"].flatten(1).any(1)
        return self.heads(features, self.teacher(batch["picture"])) * seen
