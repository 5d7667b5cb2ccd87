"""Any picture in, the same luminance out; chroma brought to full size along its edges."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab
from torch.nn import functional as F

from pipeline_colorize.core.color import (
    bytes_to_linear,
    linear_to_xyz,
    rgb_to_luminance,
    xyz_to_lab,
)
from pipeline_colorize.core.hints import hint_influence
from pipeline_colorize.core.image_processor import (
    ColorizationImageProcessor,
    Hint,
    lift_texture,
    meet_hints,
)

EXAMPLES = "space/examples/color"


@pytest.fixture
def processor():
    return ColorizationImageProcessor(chroma_stride=4, stride=16)


@pytest.fixture
def rgb(make_picture):
    """8-bit colour (32, 48, 3)."""
    return (make_picture(32, 48) * 255).round().byte().movedim(0, -1).numpy()


def true_luminance(rgb):
    return rgb2lab(rgb)[..., 0]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "P", "LAB"])
def test_colour_pil_modes_give_the_luminance_of_their_rgb(processor, rgb, mode):
    image = Image.fromarray(rgb)
    if mode == "LAB":
        pytest.importorskip("PIL.ImageCms")
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
        want = np.asarray(image)[..., 0] / 2.55
        assert np.abs(processor.to_luminance(image)[0].numpy() - want).max() < 3
        return
    image = image.convert(mode)
    want = true_luminance(np.asarray(image.convert("RGB")))
    assert np.abs(processor.to_luminance(image)[0].numpy() - want).max() < 1e-3


def test_grey_pil_modes(processor):
    ramp = np.linspace(0, 255, 256).astype(np.uint8)[None].repeat(2, 0)
    want = true_luminance(np.stack([ramp] * 3, -1))
    wide = (ramp.astype(np.uint16) * 257).astype(np.uint16)
    for image in (
        Image.fromarray(ramp),
        Image.fromarray(ramp).convert("LA"),
        Image.fromarray(wide),
        Image.fromarray(wide.astype(np.int32)),
        Image.fromarray((ramp / 255).astype(np.float32)),
    ):
        got = processor.to_luminance(image)
        assert got.shape == (1, 2, 256)
        assert np.abs(got[0].numpy() - want).max() < 1e-3, image.mode
    bits = processor.to_luminance(Image.fromarray(ramp > 127).convert("1"))
    assert set(bits.unique().tolist()) == {0.0, 100.0}


def test_arrays_and_tensors(processor, rgb):
    want = true_luminance(rgb)
    alpha = np.concatenate([rgb, rgb[..., :1]], -1)
    wide = rgb.astype(np.uint16) * 257
    unit = (rgb / 255).astype(np.float32)
    for array in (rgb, alpha, wide, unit, unit.astype(np.float64)):
        assert np.abs(processor.to_luminance(array)[0].numpy() - want).max() < 1e-3
        tensor = torch.from_numpy(array).movedim(-1, 0)
        assert np.abs(processor.to_luminance(tensor)[0].numpy() - want).max() < 1e-3
    mask = np.array([[True, False]])
    assert processor.to_luminance(mask).tolist() == [[[100.0, 0.0]]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((4, 4), 2.0), r"lies in \[0, 1\]"),
        (np.full((4, 4), np.nan), r"lies in \[0, 1\]"),
        (np.zeros((4, 4, 5)), "1 to 4 channels"),
        (np.zeros((0, 4)), "at least one pixel"),
        (np.zeros((4, 4), np.int64), "not int64"),
    ],
)
def test_arrays_that_are_no_pictures(processor, array, message):
    with pytest.raises(ValueError, match=message):
        processor.to_luminance(array)


@pytest.mark.parametrize("given", [[], (), "photo.jpg", [1, 2], None])
def test_things_that_are_no_pictures(processor, given):
    with pytest.raises(ValueError, match="picture"):
        processor.as_list(given)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (33, 47), (100, 100), (3000, 200)])
def test_working_picture(processor, size):
    luminance = torch.full((1, *size), 40.0)
    working = processor.preprocess(luminance, 64)
    height, width = working.shape[2:]
    assert (height, width) == processor.working_size(*size, 64)
    assert height % 16 == 0 and width % 16 == 0
    assert max(height, width) <= 8 * 64
    preview = processor.preview(luminance, 64)
    if max(size) <= 8 * min(size):
        assert min(height, width) == 64 == min(preview.shape[1:])
        assert abs(height / width * size[1] / size[0] - 1) <= 0.125
        assert abs(preview.shape[1] / preview.shape[2] * size[1] / size[0] - 1) < 0.01
    assert (working - 40).abs().max() < 1e-3 and (preview - 40).abs().max() < 1e-3


def test_resolution_zero_keeps_the_size(processor):
    assert processor.working_size(64, 96, 0) == (64, 96)
    assert processor.working_size(60, 107, 0) == (64, 112)  # but for whole strides


def test_hints_fall_on_their_cells(processor):
    # At half size, a cell is 8 x 8 pixels of the input.
    raster = processor.rasterize_hints(
        [Hint(1, 1, "#ff0000"), Hint(100, 36, (0, 0, 255), radius=8)], (64, 128), 32
    )
    assert raster.shape == (1, 3, 8, 16)
    red = rgb2lab(np.array([[[1.0, 0, 0]]]))[0, 0, 1:]
    assert np.allclose(raster[0, :2, 0, 0], red, atol=1e-3)
    assert raster[0, 2].sum() == 1 + 5  # one cell, and a cross of five around (12, 4)
    assert raster[0, 2, 4, 12] == raster[0, 2, 3, 12] == raster[0, 2, 4, 11] == 1
    doubtful = [Hint(9, 9, "#ff0000", confidence=0.25), Hint(100, 36, "#ff0000", 8, 0.5)]
    certain = processor.rasterize_hints(doubtful, (64, 128), 32)[0]
    processor.doubtful_hints = True
    doubtful = processor.rasterize_hints(doubtful, (64, 128), 32)[0]
    assert torch.equal(doubtful[:2, 1, 1], raster[0, :2, 0, 0])
    assert doubtful[2, 1, 1] == 0.25 and torch.equal(doubtful[2, 3:6], raster[0, 2, 3:6] / 2)
    # A network that does not know doubt gets what is as likely as not, as certain.
    assert not certain[:, 1, 1].any() and torch.equal(certain[2, 3:6], raster[0, 2, 3:6])
    for bad in (Hint(128, 1, "#ff0000"), Hint(0, -1, "#ff0000")):
        with pytest.raises(ValueError, match="outside the picture, which is 128 wide"):
            processor.rasterize_hints([bad], (64, 128), 32)
    for confidence in (0, -0.5, 1.01, float("nan")):
        with pytest.raises(ValueError, match="confidence lies above 0 and is at most 1"):
            processor.rasterize_hints([Hint(0, 0, "#ff0000", None, confidence)], (64, 128), 32)
    for color in ("red", "#12345", (1, 2), (0, 0, 256)):
        with pytest.raises(ValueError, match="#RRGGBB"):
            Hint(0, 0, color).chroma()


def test_what_a_hint_lacks_fades_over_the_cells_around_it():
    color = torch.zeros(2, 2, 9, 40)
    color[1] = 1.0
    hints = torch.zeros(1, 3, 9, 40)
    hints[0, :, 4, 3:5] = torch.tensor([3.0, -2.0, 1.0])[:, None]  # two do no more than one
    hints[0, 2, 8, 39] = 1.0
    met = meet_hints(color, hints)
    assert (met[:, :, 4, 3:5] == torch.tensor([3.0, -2.0])[:, None]).all()
    assert not met[:, :, 8, 39].any()
    red = met[0, 0, 4]
    assert (red[5:13].diff() <= 0).all() and 3 >= red[5] > red[8] > red[12] > 0 == red[13]
    assert met[0, 1].max() == 0 and met[0, 1].min() == -2
    assert torch.equal(met[0, :, :, 30:], color[0, :, :, 30:])  # a hint that is met shifts nothing
    near = hint_influence(hints.numpy())[4]
    assert near[3] == near[4] == 1 > near[8] > near[10] > 0 == near[20]


def test_doubtful_hints_are_left_to_the_network():
    color = torch.rand(2, 2, 9, 40, generator=torch.Generator().manual_seed(0))
    hints = torch.zeros(1, 3, 9, 40)
    hints[0, :, 4, 3] = torch.tensor([3.0, -2.0, 1.0])
    both = hints.clone()
    both[0, :, 4, 30] = torch.tensor([-3.0, 2.0, 0.6])
    both[0, :, 4, 4] = torch.tensor([-3.0, 2.0, 0.99])  # beside a certain one
    assert torch.equal(meet_hints(color, both), meet_hints(color, hints))
    near = hint_influence(both.numpy())[4]
    certain = hint_influence(hints.numpy())[4, 3:11]
    assert np.allclose(near[30:38], 0.6 * certain)


def test_texture_lifts_what_is_fine_and_faint():
    chroma = torch.full((3, 2, 16, 16), 12.0)
    chroma[0] += 0.2 * torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0))
    chroma[1, :, :, 8:] = -30.0  # an edge
    lifted = lift_texture(chroma, 3.0)
    assert 2 < lifted[0].std() / chroma[0].std() < 3
    assert (lifted[0].mean() - 12).abs() < 0.1
    assert (lifted[1] - chroma[1]).abs().max() < 1  # of 42: no halo
    assert torch.equal(lifted[2], chroma[2])
    assert torch.equal(lift_texture(chroma, 1.0), chroma)
    known = torch.zeros(1, 1, 16, 16)
    known[..., 5, 5] = 1
    changed = lift_texture(chroma, 3.0, known)[0] != chroma[0]
    assert not changed[:, 5, 5].any() and changed.sum() > 2 * 250


def test_even_chroma_stays_even(processor):
    luminance = 100 * torch.rand(1, 50, 70, generator=torch.Generator().manual_seed(0))
    chroma = torch.tensor([20.0, -30.0]).view(2, 1, 1).expand(2, 6, 9)
    full = processor.upsample_chroma(luminance, chroma)
    assert full.shape == (2, 50, 70)
    assert (full - chroma[:, :1, :1]).abs().max() < 1e-3


def test_cells_keep_their_mean(processor, make_picture):
    luminance = rgb_to_luminance(make_picture(128, 192))
    chroma = 30 * torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(1))
    guided = F.avg_pool2d(processor.upsample_chroma(luminance, chroma), 16)
    bicubic = F.interpolate(chroma[None], (128, 192), mode="bicubic", align_corners=False)[0]
    plain = F.avg_pool2d(bicubic, 16)
    assert (guided - chroma).abs().mean() < 0.5 * (plain - chroma).abs().mean()


def test_guided_upsampling_beats_bicubic_on_photographs(processor):
    """True chroma sent to the grid and back: better on every picture, clearly in the mean."""
    ratios = []
    for name in ("kodim15", "kodim22", "kodim23", "roman-colosseum", "kitten-on-lawn"):
        pixels = torch.from_numpy(np.array(Image.open(f"{EXAMPLES}/{name}.jpg"))).movedim(-1, 0)
        lab = xyz_to_lab(linear_to_xyz(bytes_to_linear(pixels)))
        luminance, chroma = lab[:1], lab[1:]
        grid = F.interpolate(chroma[None], (32, 48), mode="area")[0]
        bicubic = F.interpolate(grid[None], luminance.shape[1:], mode="bicubic")[0]
        guided = processor.upsample_chroma(luminance, grid)
        true = lab.movedim(0, -1).numpy()
        errors = [
            deltaE_ciede2000(true, torch.cat([luminance, full]).movedim(0, -1).numpy()).mean()
            for full in (guided, bicubic)
        ]
        ratios.append(errors[0] / errors[1])
    assert max(ratios) < 1 and np.mean(ratios) < 0.93


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 96), (1, 300)])
def test_luminance_is_kept(processor, size):
    generator = torch.Generator().manual_seed(0)
    luminance = 100 * torch.rand(1, *size, generator=generator)
    chroma = 60 * torch.randn(2, max(size[0] // 8, 1), max(size[1] // 8, 1), generator=generator)
    picture = processor.colorize(luminance, chroma)
    assert picture.shape == (*size, 3)
    got = rgb_to_luminance(picture.movedim(-1, 0) / 255)
    assert (got - luminance).abs().max() <= 100 / 255
    exact = processor.colorize_float(luminance, chroma)
    assert (rgb_to_luminance(exact) - luminance).abs().max() < 0.05


def test_rows_in_chunks_are_the_whole(processor, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    luminance = 100 * torch.rand(1, 40, 30, generator=generator)
    chroma = 20 * torch.randn(2, 10, 8, generator=generator)
    whole = processor.colorize(luminance, chroma)
    monkeypatch.setattr("pipeline_colorize.core.sizes.CHUNK_PIXELS", 100)
    assert torch.equal(processor.colorize(luminance, chroma), whole)


def test_uncertainty_picture(processor):
    image = processor.visualize_uncertainty(np.linspace(0, 40, 50).reshape(5, 10))
    lightness = rgb2lab(np.asarray(image))[..., 0].flatten()
    assert image.size == (10, 5)
    assert (np.diff(lightness) > -0.5).all() and lightness[0] < 5 and lightness[-1] > 90
