import numpy as np
import pytest
import skimage.color
import torch

from pipeline_colorize.core import color

LEVELS = np.arange(256) / 255


def srgb_slice(red: int) -> np.ndarray:
    """All colours with one value of red, (256, 256, 3)."""
    green, blue = np.meshgrid(LEVELS, LEVELS, indexing="ij")
    return np.stack([np.full_like(green, LEVELS[red]), green, blue], axis=-1)


def to_torch(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture).movedim(-1, -3).float()


def random_lab(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    lab = torch.rand(3, count, 1, generator=generator)
    return torch.stack([100 * lab[0], 260 * lab[1] - 130, 260 * lab[2] - 130])


def test_lab_equals_scikit_image_on_the_whole_srgb_cube():
    worst_lab = worst_rgb = worst_luminance = 0.0
    for red in range(256):
        picture = srgb_slice(red)
        expected = skimage.color.rgb2lab(picture)
        rgb = to_torch(picture)
        lab = color.rgb_to_lab(rgb)
        target = to_torch(expected)
        worst_lab = max(worst_lab, (lab - target).abs().max().item())
        luminance = color.rgb_to_luminance(rgb)
        worst_luminance = max(worst_luminance, (luminance - target[:1]).abs().max().item())
        worst_rgb = max(worst_rgb, (color.lab_to_rgb(target) - rgb).abs().max().item())
    assert worst_lab < 1e-4
    assert worst_luminance < 1e-4
    assert worst_rgb < 1e-4


def test_xyz_and_linear_equal_scikit_image():
    picture = srgb_slice(100)
    xyz = color.linear_to_xyz(color.srgb_to_linear(to_torch(picture)))
    torch.testing.assert_close(xyz, to_torch(skimage.color.rgb2xyz(picture)), atol=1e-6, rtol=0)
    back = color.linear_to_srgb(color.xyz_to_linear(xyz))
    torch.testing.assert_close(back, to_torch(picture), atol=1e-5, rtol=0)


def test_leading_dimensions_are_kept():
    rgb = torch.rand(2, 4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    lab = color.rgb_to_lab(rgb)
    assert lab.shape == rgb.shape
    torch.testing.assert_close(lab[1, 2], color.rgb_to_lab(rgb[1, 2]), atol=1e-4, rtol=0)
    assert color.rgb_to_luminance(rgb).shape == (2, 4, 1, 5, 6)


def test_grey_is_the_luminance_of_three_equal_channels():
    grey = torch.linspace(0, 1, 256).view(1, 1, 256)
    luminance = color.rgb_to_luminance(grey)
    torch.testing.assert_close(
        luminance, color.rgb_to_luminance(grey.expand(3, -1, -1)), atol=2e-4, rtol=0
    )
    assert luminance[0, 0, 0].abs() < 1e-4 and (luminance[0, 0, -1] - 100).abs() < 1e-4


@pytest.mark.parametrize("value", [0.0, 1e-8, 0.0031308, 0.04045, 1.0])
def test_gradients_are_finite_in_both_directions(value):
    rgb = torch.full((3, 2, 2), value, requires_grad=True)
    lab = color.rgb_to_lab(rgb)
    lab.sum().backward()
    assert rgb.grad.isfinite().all() and rgb.grad.any()

    lab = lab.detach().requires_grad_()
    color.lab_to_rgb(lab).sum().backward()
    assert lab.grad.isfinite().all() and lab.grad.any()


def test_gradient_is_the_slope_of_scikit_image():
    rgb = torch.tensor([0.2, 0.5, 0.7], dtype=torch.float64).view(3, 1, 1).requires_grad_()
    color.rgb_to_lab(rgb)[1].sum().backward()
    step = 1e-6
    for channel in range(3):
        ends = []
        for sign in (-1, 1):
            moved = rgb.detach().numpy()[:, 0, 0].copy()
            moved[channel] += sign * step
            ends.append(skimage.color.rgb2lab(moved)[1])
        assert rgb.grad[channel].item() == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=1e-3)


def test_gamut_mapping_keeps_lightness_and_hue_and_only_lowers_chroma():
    lab = random_lab(20000)
    fitted = color.fit_gamut(lab)
    assert torch.equal(fitted[0], lab[0])
    before, after = lab[1:].norm(dim=0), fitted[1:].norm(dim=0)
    assert (after <= before + 1e-5).all()
    # Parallel, and not turned round: the cross product is 0, the scalar product is not negative.
    cross = lab[1] * fitted[2] - lab[2] * fitted[1]
    assert (cross.abs() <= 1e-4 * before).all()
    assert ((lab[1:] * fitted[1:]).sum(0) >= 0).all()
    rgb = color.lab_to_rgb(fitted)
    assert rgb.min() > -2e-4 and rgb.max() < 1 + 2e-4


def test_gamut_mapping_takes_no_more_chroma_than_it_must():
    lab = random_lab(20000, seed=1)
    fitted = color.fit_gamut(lab)
    changed = (fitted[1:] != lab[1:]).any(0)
    assert 0.3 < changed.float().mean() < 0.95
    original = lab[1:].norm(dim=0)
    share = fitted[1:].norm(dim=0) / original + 2e-3
    fuller = torch.cat([lab[:1], lab[1:] * share])
    rgb = color.lab_to_rgb(fuller)
    outside = ((rgb < -1e-5) | (rgb > 1 + 1e-5)).any(0)
    assert outside[changed].float().mean() > 0.99


def test_colours_in_the_gamut_are_returned_as_they_are():
    lab = color.rgb_to_lab(to_torch(srgb_slice(200)))
    assert torch.equal(color.fit_gamut(lab), lab)
    mixed = torch.cat([lab, torch.tensor([50.0, 120.0, 0.0]).view(3, 1, 1).expand(3, 256, 1)], -1)
    fitted = color.fit_gamut(mixed)
    assert torch.equal(fitted[..., :256], lab)
    assert not torch.equal(fitted[..., 256:], mixed[..., 256:])


def test_merging_keeps_the_luminance_to_one_step_of_eight_bits():
    lab = random_lab(50000, seed=2)
    lab[0, :100] = torch.linspace(0, 2, 100)[:, None]
    lab[0, 100:200] = torch.linspace(98, 100, 100)[:, None]
    rgb = color.merge_luminance(lab[:1], lab[1:])
    assert rgb.min() >= 0 and rgb.max() <= 1
    eight_bit = (rgb * 255).round().to(torch.uint8).movedim(0, -1).numpy()
    difference = np.abs(skimage.color.rgb2lab(eight_bit)[..., 0] - lab[0].numpy())
    assert difference.max() <= 100 / 255


def test_merging_works_on_batches():
    generator = torch.Generator().manual_seed(0)
    luminance = 100 * torch.rand(3, 1, 4, 4, generator=generator)
    chroma = 40 * torch.randn(3, 2, 4, 4, generator=generator)
    rgb = color.merge_luminance(luminance, chroma)
    assert rgb.shape == (3, 3, 4, 4)
    alone = color.merge_luminance(luminance[1], chroma[1])
    torch.testing.assert_close(rgb[1], alone, atol=1e-4, rtol=0)


def test_coring_takes_faint_chroma_back():
    chroma = torch.tensor([[0.0, 3.0, 6.0, 9.0, 0.0], [0.0, 4.0, -8.0, 12.0, 1e-3]])[:, None]
    left = color.core_chroma(chroma, 5.0).norm(dim=0) / chroma.norm(dim=0)
    assert left[0, 1:].tolist() == pytest.approx([0.5, 0.8, 0.9, 4e-8], abs=1e-6)
    assert torch.equal(color.core_chroma(chroma, 0.0), chroma)


@pytest.mark.parametrize("coring", [0.0, 0.1, 5.0, 40.0])
def test_coring_is_undone(coring):
    chroma = random_lab(500)[1:]
    chroma = torch.cat([chroma, chroma / 100, torch.zeros(2, 1, 1)], dim=1)
    there = color.core_chroma(color.undo_coring(chroma, coring), coring)
    assert (there - chroma).abs().max() < 1e-3
    assert torch.sign(there * chroma).min() >= 0
