"""What training does to luminance, margins and hints: old light, doubtful colours."""

import dataclasses

import numpy as np
import torch

from pipeline_colorize.core.color import rgb_to_lab
from pipeline_colorize.training.batches import BatchFormat, Division, TrainingBatches, make_batch
from pipeline_colorize.training.config import DataConfig
from pipeline_colorize.training.draws import PICTURES, make_generator, uniform
from pipeline_colorize.training.hinting import (
    doubtful_colors,
    draw_hints,
    known_regions,
    random_hints,
)
from pipeline_colorize.training.sources import PictureMix
from pipeline_colorize.training.wear import (
    add_margins,
    degrade_luminance,
    film_luminance,
    scratch,
)

LAB = BatchFormat(color_channels=2, hint_channels=3, chroma_stride=4, ab_scale=33.0)


def random_pictures(count, height=16, width=16, seed=0):
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.integers(0, 256, (count, 3, height, width), dtype=np.uint8))


def generators(count, seed=0):
    return [make_generator(seed, PICTURES, draw) for draw in range(count)]


def plain(**changes) -> DataConfig:
    """A configuration without augmentation."""
    nothing = {"flip": False, "crop_probability": 0.0, "degrade_probability": 0.0}
    return DataConfig(**{"resolution": 16, "hint_probability": 0.0, **nothing, **changes})


class List(list):
    """Pictures by the number of their draw, again and again."""

    def __getitem__(self, draw):
        return super().__getitem__(draw % len(self))

    def other(self, generator):
        return self[int(generator.integers(len(self)))]


# Old light


def test_worn_luminance_stays_in_range_and_the_rest_as_it_was():
    luminance = 100 * torch.rand(200, 1, 16, 16)
    out = degrade_luminance(luminance, generators(200), 0.3, scratches=2)
    worn = (out != luminance).flatten(1).any(1)
    assert 35 < worn.sum() < 85
    assert out.min() >= 0 and out.max() <= 100
    assert degrade_luminance(luminance, generators(200), 0.0) is luminance


def test_early_film_darkens_red_and_lightens_blue_and_leaves_greys():
    colors = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.5, 0.5, 0.5], [1.0, 1.0, 1.0]])
    lab = rgb_to_lab(colors.T[:, None]).expand(200, 3, 1, 4)
    change = film_luminance(lab, generators(200), 0.5) - lab[:, :1]
    red, blue, grey, white = change.flatten(1).T
    chosen = blue != 0
    assert 70 < chosen.sum() < 130
    assert red[chosen].max() < 0 and red.min() < -20 and blue[chosen].min() > 0 and blue.max() > 40
    assert not red[~chosen].any()
    assert max(grey.abs().max(), white.abs().max()) < 0.2


def test_scratches_are_thin_lines():
    luminance = torch.full((1, 64, 64), 50.0)
    scratch(luminance, make_generator(0, 0, 4), 3)
    changed = luminance[0] != 50
    assert changed.any() and set(luminance[changed[None]].tolist()) <= {0.0, 100.0}
    assert changed.sum(1).max() <= 3


def test_strong_wear_loses_shadows_and_lights_and_weak_wear_stays_as_it_was():
    ramp = torch.linspace(0, 100, 64).expand(200, 1, 64, 64)
    weak, strong = (
        degrade_luminance(ramp, generators(200), 1.0, strength=strength) for strength in (1.0, 2.5)
    )
    assert strong.min() >= 0 and strong.max() <= 100
    # Means along the ramp, in which grain averages out, show the curve.
    means = [out.mean(2).flatten(1) for out in (weak, strong)]
    spread = [mean.amax(1) - mean.amin(1) for mean in means]
    assert spread[1].min() < 0.75 * spread[0].min()  # faded
    slopes = [mean.diff(dim=1).unfold(1, 8, 8).mean(2) for mean in means]
    assert slopes[1].max() > 1.4 * slopes[0].max()  # steep


def test_margins_are_even_and_without_colour_and_hold_the_whole_picture():
    lab = rgb_to_lab(random_pictures(300, 32, 32) / 255)
    out, outside = add_margins(lab, generators(300), 0.5, most=0.4)
    has = outside.flatten(1).any(1)
    changed = (out != lab).flatten(1).any(1)
    assert 110 < changed.sum() < 190 and not (has & ~changed).any()
    share = outside[has].float().mean((1, 2, 3))
    assert share.max() < 1 - 0.6**2 + 0.05
    shades = []
    for picture, margin in zip(out[has], outside[has, 0], strict=True):
        assert not picture[1:, margin].any()
        shades.append(picture[0, margin].unique().item())
        rows, columns = (~margin).any(1).nonzero()[:, 0], (~margin).any(0).nonzero()[:, 0]
        inside = picture[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (~margin).sum() == inside[0].numel()  # one rectangle
    shades = torch.tensor(shades)
    for low, high in ((0, 12), (25, 75), (88, 100)):  # black, grey, white
        assert ((shades >= low) & (shades <= high)).float().mean() > 0.2


def test_margins_reach_the_network_as_even_grey_without_colour():
    config = plain(margin_probability=1.0, degrade_probability=1.0, degrade_strength=2.0)
    batch = make_batch(random_pictures(4, 64, 64), LAB, config, generators(4))
    lab = rgb_to_lab(random_pictures(4, 64, 64) / 255)
    drawn = generators(4)
    uniform(drawn, 4)  # for crops
    _, outside = add_margins(lab, drawn, 1.0)
    for number in range(4):
        light = batch["condition"][number, 0][outside[number, 0]]
        assert light.numel() == 0 or light.std() < 1e-5
        whole = torch.nn.functional.avg_pool2d(outside[number].float(), 4)[0] == 1
        assert not batch["color"][number][:, whole].any()


# Colours that are given


def test_hints_are_true_colours_of_their_cells():
    chroma = torch.randn(400, 2, 8, 8)
    hints = random_hints(chroma, generators(400), probability=0.5, most=16)
    mask = hints[:, 2:]
    has = mask.flatten(1).any(1)
    assert 150 < has.sum() < 250
    assert not (hints[:, :2] * (1 - mask)).any()
    single = (mask.sum((1, 2, 3)) == 1).nonzero()[:, 0]
    assert len(single) > 10
    for picture in single:
        place = mask[picture, 0].bool()
        assert torch.allclose(hints[picture, :2, place], chroma[picture, :, place])


def smooth(count, side=32, seed=0):
    """Smooth chroma, (count, 2, side, side), in the network's scale."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 2, 4, 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")


def test_known_regions_are_exact_all_around_a_place_to_mend():
    chroma = smooth(300)
    hints = known_regions(chroma, generators(300), 0.5)
    mask = hints[:, 2:]
    has = mask.flatten(1).any(1)
    assert 110 < has.sum() < 190
    assert torch.equal(hints[:, :2], chroma * mask) and set(mask.unique().tolist()) == {0.0, 1.0}
    share = 1 - mask[has].mean((1, 2, 3))  # to mend
    assert 0.0 < share.min() < 0.05 and 0.3 < share.max() < 0.5


def test_doubtful_colours_are_more_often_right_the_surer_they_are():
    chroma, others = smooth(1000), smooth(1000, seed=1)
    hints = doubtful_colors(chroma, others, generators(1000), 0.6, 0.3)
    confidence = hints[:, 2:]
    mask = confidence > 0
    has = mask.flatten(1).any(1)
    assert 540 < has.sum() < 660
    assert confidence[mask].min() >= 0.05 and confidence.max() <= 0.95
    assert not hints[:, :2][~mask.expand(-1, 2, -1, -1)].any()
    error = (hints[:, :2] - chroma).norm(dim=1)[mask[:, 0]]
    sure = confidence[mask]
    errors = [error[(sure >= low) & (sure < low + 0.2)].mean() for low in (0.1, 0.3, 0.5, 0.7)]
    assert errors[0] > 1.2 * errors[3]
    right = (hints[:, :2] - chroma).norm(dim=1) < 0.5 * (hints[:, :2] - others).norm(dim=1)
    assert 0.1 < right[mask[:, 0]].float().mean() < 0.9  # neither always nor never


def test_no_doubt_and_no_region_change_nothing():
    chroma = smooth(20)
    config = plain(hint_probability=0.5)
    plain_hints = random_hints(chroma, generators(20), 0.5, config.hint_most)
    assert torch.equal(draw_hints(chroma, None, generators(20), config), plain_hints)
    others = smooth(20, seed=1)
    doubtful = dataclasses.replace(config, doubtful_probability=1.0, region_probability=0.5)
    hints = draw_hints(chroma, others, generators(20), doubtful)
    exact = (plain_hints[:, 2:] == 1).expand(-1, 3, -1, -1)
    assert exact.any() and torch.equal(hints[exact], plain_hints[exact])
    kinds = hints[:, 2].flatten(1)
    assert (kinds == 1).any() and ((kinds > 0) & (kinds < 1)).any() and (kinds == 0).any()


def test_a_draw_with_everything_switched_on_does_not_depend_on_its_batch():
    config = plain(
        flip=True,
        crop_probability=0.5,
        hint_probability=0.5,
        degrade_probability=0.7,
        degrade_strength=2.0,
        degrade_scratches=3,
        film_probability=0.5,
        margin_probability=0.5,
        region_probability=0.3,
        doubtful_probability=0.5,
        condition_dropout=0.1,
    )
    pictures = List(random_pictures(5, 20, 24))

    def batches(**changes):
        return TrainingBatches(pictures, LAB, config, 3, Division(**changes), noise_levels=2)

    whole = batches(batch_size=12)[1]
    halves = [batches(batch_size=6, accumulation=2)[number] for number in (2, 3)]
    for name, expected in whole.items():
        assert torch.allclose(torch.cat([half[name] for half in halves]), expected, atol=1e-5)
    confidence = whole["condition"][:, 3]
    assert confidence.min() >= 0 and confidence.max() <= 1


def test_other_pictures_come_from_memory_and_a_stream_has_none():
    class Stream:
        pass

    mix = PictureMix([Stream()], np.ones(1), 4, 0)
    assert mix.other(make_generator(0, 0, 0)) is None
    config = plain(doubtful_probability=1.0)

    class OnlyStreams(List):
        def other(self, generator):
            return None

    batch = TrainingBatches(OnlyStreams(random_pictures(3)), LAB, config, 0, Division(4))[0]
    assert ((batch["condition"][:, 3] > 0) & (batch["condition"][:, 3] < 1)).any()
