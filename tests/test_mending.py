"""Mending: colours outside a mask stay to the bit, those inside are invented anew."""

from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from conftest import tiny_unet
from PIL import Image

from pipeline_colorize import ColorizationPipeline, Hint, OffsetCosineScheduler
from pipeline_colorize.core.agreement import agreement_weights
from pipeline_colorize.core.color import rgb_to_luminance
from pipeline_colorize.core.margins import Frame
from pipeline_colorize.core.mending import Mend, blend, linear_light, undo_dials, with_light_of
from pipeline_colorize.core.sampling import ChromaDials
from pipeline_colorize.core.sizes import look_schedule
from pipeline_colorize.onnx.graph import write_model
from pipeline_colorize.onnx.noise import TorchGenerator
from pipeline_colorize.onnx.runtime import ORTColorizationPipeline

SIZE = (72, 96)  # height, width


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mending")
    ColorizationPipeline(
        tiny_unet("hints"),
        OffsetCosineScheduler(prediction_type="v_prediction"),
        default_num_inference_steps=3,
        default_processing_resolution=32,
        default_second_look=2.0,
        default_eta=1.0,
        default_num_candidates=3,
        default_saturation=1.3,
        chroma_coring=4.0,
        chroma_texture=2.5,
        chroma_balance=0.4,
    ).save_pretrained(folder)
    write_model(folder, folder / "full.onnx", "fp32")
    return folder


@pytest.fixture(scope="module")
def pipe(folder):
    pipe = ColorizationPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def runtime(folder):
    return ORTColorizationPipeline(folder / "full.onnx")


@pytest.fixture(scope="module")
def grey():
    """Light with an edge in the middle, and a little of everything else."""
    random = np.random.default_rng(0)
    picture = np.full(SIZE, 90.0)
    picture[:, 48:] = 170
    picture += random.normal(0, 4, SIZE) + np.linspace(-20, 20, SIZE[0])[:, None]
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def colored(pipe, grey):
    return call(pipe, grey, seed=3).images[0]


@pytest.fixture(scope="module")
def mask():
    return mask_of(slice(20, 52), slice(24, 70))


def mask_of(rows, columns):
    mask = np.zeros(SIZE, np.uint8)
    mask[rows, columns] = 255
    return Image.fromarray(mask)


def call(pipe, image, seed=0, **options):
    kind = torch.Generator if isinstance(pipe, ColorizationPipeline) else TorchGenerator
    return pipe(image, generator=kind().manual_seed(seed), **options)


def lightness(image):
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).movedim(-1, 0) / 255
    return rgb_to_luminance(pixels)


@pytest.mark.parametrize("engine", ["pipe", "runtime"])
def test_outside_the_mask_nothing_changes_to_the_bit(engine, request, grey, colored, mask):
    pipe = request.getfixturevalue(engine)
    result = call(pipe, grey, 5, color_image=colored, mask_image=mask).images[0]
    outside = np.asarray(mask) == 0
    np.testing.assert_array_equal(np.asarray(result)[outside], np.asarray(colored)[outside])
    changed = np.abs(np.asarray(result, int) - np.asarray(colored, int)).max(-1)
    assert (changed[30:42, 34:44] > 0).mean() > 0.9
    assert (lightness(result) - lightness(grey)).abs().max() <= 100 / 255


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strength": 0.5},
        {"strength": 0.2},
        {"strength": 0.0},
        {"num_samples": 2, "saturation": 1.4, "eta": 0.0},
        {"hints": [Hint(40, 30, "#2040c0", 6)]},
        {"output_type": "np"},
    ],
)
def test_both_engines_mend_alike(pipe, runtime, grey, colored, mask, options):
    given = {"color_image": colored, "mask_image": mask, **options}
    expected, result = (call(one, grey, 5, **given).images for one in (pipe, runtime))
    for ours, theirs in zip(result, expected, strict=True):
        ours, theirs = (np.asarray(image, np.float64) for image in (ours, theirs))
        unit = 255 if ours.max() <= 1 else 1
        assert np.abs(ours - theirs).max() * unit <= 1
        assert (np.abs(ours - theirs) * unit > 0.5).mean() < 1e-3


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_chroma_can_be_given_and_is_kept(pipe, runtime, grey, mask, strength):
    before = call(pipe, grey, 3, output_type="latent").images[0]
    given = {"color_image": before, "mask_image": mask, "strength": strength}
    after = call(pipe, grey, 5, output_type="latent", **given).images[0]
    changed = (after - before).abs().amax(0) > 1e-3
    assert changed.any()
    assert not changed[:3].any()
    assert not changed[-3:].any()
    other = call(runtime, grey, 5, output_type="latent", **given).images[0]
    np.testing.assert_allclose(other, after.numpy(), atol=1e-3)
    shown = call(runtime, grey, 5, **given).images[0]
    outside = np.asarray(mask) == 0
    plain = call(pipe, grey, 3).images[0]
    off = np.abs(np.asarray(shown, int) - np.asarray(plain, int))[outside]
    assert off.mean() < 4  # the texture of chroma is not lifted twice


def test_without_colours_seeds_give_what_they_gave(pipe, grey, colored):
    """New colours everywhere, from full noise, are those of a call that knows none."""
    result = call(pipe, grey, 3, color_image=colored, strength=1.0, second_look=1.0).images[0]
    assert result == call(pipe, grey, 3, second_look=1.0).images[0]


@pytest.mark.parametrize("second_look", [1.0, 2.0])
def test_variations_are_the_nearer_the_weaker(pipe, grey, colored, second_look):
    chroma = call(pipe, grey, 3, output_type="latent", second_look=second_look).images[0]
    distances = [
        (
            call(
                pipe,
                grey,
                8,
                color_image=chroma,
                strength=strength,
                output_type="latent",
                second_look=second_look,
            ).images[0]
            - chroma
        ).norm()
        for strength in (0.0, 0.1, 0.9)
    ]
    assert distances[0] < distances[1] < distances[2]


def test_a_picture_is_encoded_once_for_all_its_mends(folder, grey, colored, mask):
    """What is kept of the last picture gives the same mend, and serves no other picture or hint."""
    pipe = ORTColorizationPipeline(folder / "full.onnx")
    given = {"color_image": colored, "mask_image": mask}
    hint = [Hint(40, 30, "#2040c0", 6)]
    fresh = [
        call(ORTColorizationPipeline(folder / "full.onnx"), grey, 5, **given, hints=hints).images
        for hints in (None, hint)
    ]
    for before in (grey, grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT)):
        call(pipe, before, 3)
        assert [call(pipe, grey, 5, **given, hints=hints).images for hints in (None, hint)] == fresh
    runs = []
    session, pipe._session = (
        pipe._session,
        SimpleNamespace(
            run=lambda names, given: (
                runs.append(given["features"].size) or session.run(names, given)
            )
        ),
    )
    call(pipe, grey, 5, **given, hints=hint)
    assert all(runs)


def test_nothing_to_mend_gives_the_picture_back(pipe, grey, colored):
    black = Image.new("L", grey.size)
    assert call(pipe, grey, color_image=colored, mask_image=black).images[0] == colored


@pytest.mark.parametrize("name", OffsetCosineScheduler._compatibles)
def test_all_samplers_mend(pipe, grey, colored, mask, name):
    scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    other = ColorizationPipeline(pipe.unet, scheduler, **dials(pipe))
    other.set_progress_bar_config(disable=True)
    for strength in (1.0, 0.4):
        given = {"color_image": colored, "mask_image": mask, "strength": strength}
        result = call(other, grey, 5, **given, eta=0.0).images[0]
        outside = np.asarray(mask) == 0
        np.testing.assert_array_equal(np.asarray(result)[outside], np.asarray(colored)[outside])


def dials(pipe):
    names = [name for name in pipe.config if name.startswith(("default_", "chroma_"))]
    return {name: pipe.config[name] for name in names}


def test_a_batch_is_mended_as_its_pictures_alone(pipe, grey, colored, mask):
    other = grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned = colored.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    seeds = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    both = pipe(
        [grey, other], generator=seeds, color_image=[colored, turned], mask_image=[mask, mask]
    )
    alone = call(pipe, other, 6, color_image=turned, mask_image=mask)
    off = np.abs(np.asarray(both.images[1], int) - np.asarray(alone.images[0], int))
    assert off.max() <= 1


def test_callbacks_see_the_colours_that_stay(pipe, grey, colored):
    seen = []

    def look(pipe, step, timestep, tensors):
        seen.append(tensors["chroma"])
        return tensors

    chroma = call(pipe, grey, 3, output_type="latent", second_look=1.0).images[0]
    call(
        pipe,
        grey,
        5,
        color_image=chroma,
        mask_image=mask_of(slice(0, 30), slice(0, 40)),
        second_look=1.0,
        callback_on_step_end=look,
        callback_on_step_end_tensor_inputs=["chroma"],
    )
    for shown in seen:
        torch.testing.assert_close(shown[0, :, -2:], chroma[:, -2:], atol=1e-3, rtol=0)


def test_an_interrupted_mend_changes_nothing(pipe, grey, colored, mask):
    def stop(pipe, step, timestep, tensors):
        pipe.interrupt = True
        return tensors

    picture = [grey, grey.transpose(Image.Transpose.ROTATE_90)]
    before = [colored, colored.transpose(Image.Transpose.ROTATE_90)]
    result = pipe(picture, color_image=before, callback_on_step_end=stop).images[1]
    off, of_grey = (
        np.abs(np.asarray(image.convert("RGB"), int) - np.asarray(before[1], int)).mean()
        for image in (result, picture[1])
    )
    assert off < of_grey / 2  # its colours pass through the coarse grid


def test_margins_stay_as_they_are(pipe):
    page = np.full((140, 120), 240, np.uint8)
    page[30:110, 20:100] = np.random.default_rng(0).integers(20, 160, (80, 80))
    page = Image.fromarray(page)
    colored = call(pipe, page, 3).images[0]
    mask = Image.new("L", page.size)
    mask.paste(255, (0, 0, 60, 60))
    result = call(pipe, page, 5, color_image=colored, mask_image=mask).images[0]
    outside = np.asarray(mask) == 0
    np.testing.assert_array_equal(np.asarray(result)[outside], np.asarray(colored)[outside])
    np.testing.assert_array_equal(np.asarray(result)[:25, :15], np.asarray(colored)[:25, :15])


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"mask_image": Image.new("L", SIZE[::-1])}, "color_image"),
        ({"strength": 0.5}, "color_image"),
        ({"color_image": Image.new("RGB", (5, 5))}, "as large as `image`"),
        ({"color_image": "photo.jpg"}, "not str"),
        ({"color_image": [Image.new("RGB", SIZE[::-1])] * 2}, "one color_image a picture"),
        ({"color_image": np.zeros((*SIZE, 3)) + 2.0}, r"\[2.0, 2.0\]"),
        ({"color_image": Image.new("RGB", SIZE[::-1]), "strength": 1.2}, "strength"),
        (
            {"color_image": Image.new("RGB", SIZE[::-1]), "mask_image": Image.new("L", (3, 4))},
            "mask",
        ),
    ],
)
@pytest.mark.parametrize("engine", ["pipe", "runtime"])
def test_what_is_wrong_is_named(engine, request, grey, given, word):
    with pytest.raises(ValueError, match=word):
        request.getfixturevalue(engine)(grey, **given)


def test_only_models_that_denoise_chroma_mend(grey, colored):
    pipe = ColorizationPipeline(tiny_unet("grid"), None)
    with pytest.raises(ValueError, match="denoises chroma"):
        pipe(grey, color_image=colored)


# --- the parts ------------------------------------------------------------------------------------


def test_a_schedule_starts_where_strength_says():
    for steps in (1, 3, 12):
        starts = []
        for strength in (0.1, 0.3, 0.5, 0.7, 0.9):
            whole, share = look_schedule(steps, strength=strength)
            starts.append(max(t for t in np.arange(1, whole + 1) / whole if t < share))
        assert starts == sorted(starts)
        np.testing.assert_allclose(starts, (0.1, 0.3, 0.5, 0.7, 0.9), atol=0.11)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_mixtures_of_like_light_have_that_light(kind):
    random = np.random.default_rng(0)
    grey = random.uniform(0.1, 0.9, (20, 30)).astype(np.float32)
    luminance = lightness_of(np.repeat(grey[..., None], 3, 2))
    pictures = [
        with_light_of(random.uniform(0, 1, (20, 30, 3)).astype(np.float32), luminance)
        for _ in range(2)
    ]
    np.testing.assert_allclose(lightness_of(pictures[0]), luminance, atol=1.5)
    if kind == np.uint8:
        pictures = [np.rint(255 * picture).astype(kind) for picture in pictures]
    mixed = blend(*pictures, random.uniform(0, 1, (20, 30)).astype(np.float32))
    assert mixed.dtype == kind
    bounds = [lightness_of(picture) for picture in pictures]
    found = lightness_of(mixed)
    assert (found <= np.maximum(*bounds) + 0.4).all()
    assert (found >= np.minimum(*bounds) - 0.4).all()


def lightness_of(pixels):
    srgb = torch.from_numpy(np.ascontiguousarray(pixels)).movedim(-1, 0)
    srgb = srgb / 255 if srgb.dtype == torch.uint8 else srgb
    return rgb_to_luminance(srgb)[0].numpy()


def test_pixels_with_the_right_light_are_not_touched():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(with_light_of(pixels, lightness_of(pixels)), pixels)


def test_a_weight_keeps_to_the_mask_and_ends_where_the_thing_ends():
    luminance = np.full((120, 160), 40, np.float32)
    luminance[:, 80:] = 75  # a thing that ends at column 80
    mask = np.zeros((120, 160), np.float32)
    mask[30:90, 40:80] = 1  # its right edge is that of the thing
    overlay = Mend(np.zeros((120, 160, 3), np.uint8), mask).overlay(luminance, cell=8)
    weight = np.zeros_like(mask)
    weight[overlay.inside] = overlay.weight
    assert (weight[mask == 0] == 0).all()
    assert weight[60, 60] == 1
    assert weight[60, 79] > 0.85  # at the edge in the light
    assert weight[60, 40] < 0.3  # where there is none it fades
    assert np.all(np.diff(weight[60, 40:52]) >= -1e-6)


def test_greys_of_a_mask_mix(pipe, grey, colored):
    half = Image.new("L", grey.size, 128)
    whole = call(pipe, grey, 5, color_image=colored).images[0]
    result = call(pipe, grey, 5, color_image=colored, mask_image=half).images[0]
    parts = [linear_light(np.asarray(image)) for image in (colored, whole)]
    mixed = (127 * parts[0] + 128 * parts[1]) / 255
    np.testing.assert_allclose(linear_light(np.asarray(result)), mixed, atol=0.02)


def test_colours_on_a_grid_are_those_of_its_cells():
    from skimage.color import lab2rgb

    chroma = np.random.default_rng(0).uniform(-20, 20, (2, 4, 6))
    lab = np.concatenate([np.full((1, 32, 48), 60.0), chroma.repeat(8, 1).repeat(8, 2)])
    pixels = np.rint(255 * lab2rgb(np.moveaxis(lab, 0, -1))).astype(np.uint8)
    mend = Mend(pixels, np.ones((32, 48), np.float32))
    found = mend.chroma_on((4, 6), Frame((32, 48), (0, 32, 0, 48)))
    np.testing.assert_allclose(found, chroma, atol=0.8)


def test_candidates_agree_inside_the_mask_alone():
    """However small the mask is, distance counts there as it does in a whole picture."""
    random = np.random.default_rng(0)
    inside = random.normal(0, 10, (8, 2, 8, 8))
    whole = np.tile(inside, (1, 1, 4, 4))
    kept = np.ones((32, 32), np.float32)
    kept[12:20, 12:20] = 0
    part = np.where(kept, 0, whole)
    alone = agreement_weights(part, 8, kept=kept)
    assert alone[:, :, 0, 16, 16].max() < 0.9  # no candidate wins by the mask's size
    np.testing.assert_allclose(alone.sum(1), 1, atol=1e-5)


def test_the_dials_are_undone():
    network = np.random.default_rng(0).uniform(-30, 30, (1, 2, 9, 12)).astype(np.float32)
    dials = ChromaDials(texture=3.0, coring=4.0, saturation=1.3)
    shown = dials.show(torch.from_numpy(network)).numpy()
    found = undo_dials(shown[0], 1.3, 4.0, 3.0)
    again = dials.show(torch.from_numpy(found)[None]).numpy()
    np.testing.assert_allclose(again, shown, atol=0.2)
    np.testing.assert_allclose(found, network[0], atol=0.5)
