"""The pipeline's contract: every model and sampler keeps the light and invents the colour."""

import json
import subprocess
import sys
from typing import ClassVar

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, UNet2DModel
from diffusers.callbacks import PipelineCallback
from PIL import Image, ImageCms
from safetensors.torch import load_file
from scipy.ndimage import uniform_filter

from pipeline_colorize import (
    ColorizationPipeline,
    ColorizationPipelineOutput,
    Hint,
    OffsetCosineScheduler,
)
from pipeline_colorize.core.agreement import (
    agree,
    agreement_weights,
    warmth_order,
    window_mean,
)
from pipeline_colorize.core.color import rgb_to_luminance
from pipeline_colorize.core.sampling import ColorSampler
from pipeline_colorize.registry import MODELS, shipped_models
from pipeline_colorize.release_code import package_code

COMPATIBLE = list(OffsetCosineScheduler._compatibles)


def make_pipe(unet, prediction_type="v_prediction", **defaults):
    pipe = ColorizationPipeline(
        unet, OffsetCosineScheduler(prediction_type=prediction_type), **defaults
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seeds(*values):
    return [torch.Generator().manual_seed(value) for value in values]


@pytest.fixture
def photo(make_picture):
    rgb = make_picture(40, 56)
    return Image.fromarray((rgb * 255).round().byte().movedim(0, -1).numpy())


@pytest.fixture
def pipe(make_unet):
    return make_pipe(make_unet("hints"), default_processing_resolution=32)


def luminance_error(image, result):
    def luminance(picture):
        return rgb_to_luminance(
            torch.from_numpy(np.array(picture.convert("RGB"))).movedim(-1, 0) / 255
        )

    return (luminance(image) - luminance(result)).abs().max().item()


def small_stock_unet(colors):
    return UNet2DModel(
        in_channels=colors + 1,
        out_channels=colors,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        layers_per_block=1,
    ).eval()


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_every_layout_keeps_the_luminance(unet, photo, eta):
    pipe = make_pipe(unet, "epsilon" if unet.config.sample_channels == 3 else "v_prediction")
    result = pipe(photo, 3, eta=eta, processing_resolution=24, generator=seeds(0))
    assert isinstance(result, ColorizationPipelineOutput)
    (image,) = result.images
    assert image.size == photo.size and image.mode == "RGB"
    assert luminance_error(photo, image) <= 100 / 255
    assert np.ptp(np.asarray(image), axis=-1).max() > 0  # there is colour


@pytest.mark.parametrize("name", COMPATIBLE)
def test_compatible_schedulers_colorize(pipe, photo, name):
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    (image,) = pipe(photo, 4, generator=seeds(0)).images
    assert luminance_error(photo, image) <= 100 / 255
    assert np.ptp(np.asarray(image), axis=-1).max() > 0


def test_ddim_of_diffusers_gives_the_same_colours(pipe, photo):
    ours = pipe(photo, 5, generator=seeds(0), output_type="latent").images[0]
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    theirs = pipe(photo, 5, generator=seeds(0), output_type="latent").images[0]
    assert torch.allclose(ours, theirs, atol=0.02)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # diffusers' own, of NumPy
@pytest.mark.parametrize("steps", [7, 12])  # 1000 is no multiple of them, nor of half of them
@pytest.mark.parametrize("name", ["OffsetCosineScheduler", *COMPATIBLE])
def test_no_scheduler_leaves_noise(make_unet, photo, name, steps, monkeypatch):
    """What a network is sure of comes out, of both looks."""
    pipe = make_pipe(make_unet("hints"), default_processing_resolution=16)
    rates = torch.stack([pipe.scheduler.signal_rates, pipe.scheduler.noise_rates])

    def oracle(sampler, latents, timestep, condition):
        timestep = float(timestep)  # between two of the schedule's, as some solvers ask
        signal, rate = (np.interp(timestep, np.arange(1000), one) for one in rates.numpy())
        return signal * (latents - signal * 0.25) / rate - rate * 0.25

    monkeypatch.setattr(ColorSampler, "predict", oracle)
    if name in COMPATIBLE:
        pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    for second_look in (1, 2):
        options = {"second_look": second_look, "eta": 1.0, "generator": seeds(0)}
        chroma = pipe(photo, steps, output_type="latent", **options).images[0]
        wanted = torch.full_like(chroma, 0.25 * pipe.unet.config.ab_scale)
        assert torch.allclose(chroma, wanted, atol=0.01 * pipe.unet.config.ab_scale)


@pytest.mark.parametrize("colors", [2, 3])
def test_stock_unet(photo, colors):
    (image,) = make_pipe(small_stock_unet(colors), "epsilon")(
        photo, 2, processing_resolution=32, generator=seeds(0)
    ).images
    assert image.size == photo.size
    assert luminance_error(photo, image) <= 100 / 255


def test_one_pass_model(make_unet, photo):
    pipe = ColorizationPipeline(make_unet("grid"), None, default_processing_resolution=32)
    pipe.set_progress_bar_config(disable=True)
    first, second = (pipe(photo).images[0] for _ in range(2))
    assert luminance_error(photo, first) <= 100 / 255
    assert np.array_equal(np.asarray(first), np.asarray(second))
    with pytest.raises(ValueError, match="one-pass"):
        pipe(photo, output_intermediates=True)


def test_batch_equals_singles(pipe, photo):
    pictures = [photo, photo.resize((30, 64)), photo.convert("L"), photo.resize((30, 64)).rotate(9)]
    options = {"num_inference_steps": 3, "num_samples": 2, "output_type": "latent", "eta": 0.7}
    together = pipe(pictures, generator=seeds(0, 1, 2, 3), **options).images
    small = pipe(pictures, generator=seeds(0, 1, 2, 3), batch_size=1, **options).images
    assert len(together) == 8
    for index, picture in enumerate(pictures):
        alone = pipe(picture, generator=seeds(index), **options).images
        for sample in range(2):
            assert torch.allclose(together[2 * index + sample], alone[sample], atol=1e-4)
            assert torch.allclose(
                together[2 * index + sample], small[2 * index + sample], atol=1e-4
            )


def test_one_generator_and_seeds(pipe, photo):
    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        return np.asarray(pipe(photo, 3, generator=generator).images[0])

    assert np.array_equal(run(0), run(0))
    assert not np.array_equal(run(0), run(1))
    a, b = pipe(photo, 3, num_samples=2, generator=seeds(0)).images
    assert not np.array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_temperature_zero_needs_no_seed(pipe, photo, eta):
    a, b = pipe(photo, 3, num_samples=2, temperature=0, eta=eta).images
    assert np.array_equal(np.asarray(a), np.asarray(b))


def test_eta_of_the_call_goes_over_the_models(make_unet, photo):
    ancestral = make_pipe(make_unet("grid"), default_eta=1.0)
    plain = make_pipe(make_unet("grid"))

    def chroma(pipe, **options):
        return pipe(photo, 4, generator=seeds(0), output_type="latent", **options).images[0]

    assert torch.equal(chroma(ancestral), chroma(plain, eta=1.0))
    assert torch.equal(chroma(ancestral, eta=0.0), chroma(plain))
    assert not torch.equal(chroma(ancestral), chroma(plain))


def test_saturation_scales_chroma(pipe, photo):
    full = pipe(photo, 3, generator=seeds(0), output_type="latent").images[0]
    half = pipe(photo, 3, generator=seeds(0), output_type="latent", saturation=0.5).images[0]
    assert torch.allclose(half, full / 2, atol=1e-4)
    (grey,) = pipe(photo, 3, saturation=0).images
    assert np.ptp(np.asarray(grey), axis=-1).max() <= 1


@pytest.mark.parametrize(
    ("output_type", "kind", "shape"),
    [
        ("pil", Image.Image, None),
        ("np", np.ndarray, (40, 56, 3)),
        ("pt", torch.Tensor, (3, 40, 56)),
        ("latent", torch.Tensor, (2, 8, 12)),
    ],
)
def test_output_types(pipe, photo, output_type, kind, shape):
    (image,) = pipe(photo, 2, output_type=output_type, generator=seeds(0)).images
    assert isinstance(image, kind)
    assert shape is None or tuple(image.shape) == shape
    as_tuple = pipe(photo, 2, output_type=output_type, return_dict=False, generator=seeds(0))
    assert isinstance(as_tuple, tuple) and len(as_tuple) == 3


def test_working_size_output(pipe, photo):
    (image,) = pipe(photo, 2, match_input_resolution=False).images
    assert image.size == (45, 32)


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (3, 2), (257, 33)])
def test_sizes_of_every_kind(pipe, size):
    image = Image.linear_gradient("L").resize(size)
    (result,) = pipe(image, 2, generator=seeds(0)).images
    assert result.size == size
    assert luminance_error(image, result) <= 100 / 255


def test_uncertainty(pipe, photo):
    result = pipe(photo, 3, num_samples=4, output_uncertainty=True, generator=seeds(0))
    (spread,) = result.uncertainty
    assert spread.shape == (40, 56) and (spread >= 0).all() and spread.max() > 0
    chroma = pipe(photo, 3, num_samples=4, output_type="latent", generator=seeds(0)).images
    assert np.isclose(spread.mean(), chroma.var(0).sum(0).sqrt().mean(), rtol=0.1)
    assert pipe.image_processor.visualize_uncertainty(spread).size == (56, 40)
    with pytest.raises(ValueError, match="num_samples"):
        pipe(photo, output_uncertainty=True)


def test_intermediates_end_at_the_result(pipe, photo):
    result = pipe(
        [photo, photo],
        3,
        num_samples=2,
        output_intermediates=True,
        match_input_resolution=False,
        generator=seeds(0, 1),
    )
    assert [len(film) for film in result.intermediates] == [3] * 4
    for film, image in zip(result.intermediates, result.images, strict=True):
        assert film[-1].size == image.size
        assert np.array_equal(np.asarray(film[-1]), np.asarray(image))


def test_a_tint_that_one_candidate_has_gives_way_where_it_is():
    generator = np.random.default_rng(0)
    shared = generator.normal(0, 1, (1, 2, 32, 40)) + [[[[20]], [[-10]]]]
    chroma = shared + generator.normal(0, 1, (4, 2, 32, 40))
    chroma[1, :, 4:16, 4:16] += [[[60]], [[60]]]
    weights = agreement_weights(chroma, 4)
    assert weights.shape == (1, 4, 1, 32, 40) and np.allclose(weights.sum(1), 1)
    [result] = agree(chroma, weights)
    assert np.abs(result - shared[0]).max() < 8  # of 60
    assert weights[0, 1, 0, 28, 36] > 0.1  # far from its tint it still counts


def test_where_candidates_disagree_one_is_taken():
    red, green = np.array([60.0, 30, 60, 60, -60]), np.array([40.0, 60, 40, 40, 40])
    chroma = np.stack([red, green], 1)[:, :, None, None] * np.ones((16, 16))
    [result] = agree(chroma, agreement_weights(chroma, 5))
    assert np.abs(result - [[[60]], [[40]]]).max() < 1  # their mean is (30, 44)


def test_of_two_candidates_the_first_counts_and_groups_are_apart():
    chroma = np.random.default_rng(1).normal(0, 20, (6, 2, 8, 8)).astype(np.float32)
    assert np.array_equal(agree(chroma, agreement_weights(chroma, 2)), chroma[::2])
    assert np.array_equal(agree(chroma, agreement_weights(chroma, 1)), chroma)
    together = agree(chroma, agreement_weights(chroma, 3))
    assert np.array_equal(together[1:], agree(chroma[3:], agreement_weights(chroma[3:], 3)))
    same = np.repeat(chroma[:1], 3, axis=0)
    assert np.allclose(agree(same, agreement_weights(same, 3)), chroma[:1], atol=1e-5)


def test_balance_tones_down_what_candidates_are_sure_of():
    chroma = np.full((4, 2, 32, 64), 20.0)
    chroma += np.random.default_rng(4).normal(0, 1, chroma.shape)
    chroma[..., 32:] += np.random.default_rng(5).normal(0, 25, (4, 2, 1, 1))
    plain, balanced = agreement_weights(chroma, 4), agreement_weights(chroma, 4, 0.5)
    factor = balanced.sum(1)[0, 0]
    assert np.allclose(balanced / factor, plain, atol=1e-6)
    assert 0.5 < factor[:, :20].max() < 0.7 and 1 < factor[:, 44:].min() < factor.max() < 1.5
    assert np.abs(np.diff(factor, axis=1)).max() < 0.15  # no edge in a colour without one
    known = np.zeros((32, 64))
    known[:, 5] = 1
    near = agreement_weights(chroma, 4, 0.5, known).sum(1)[0, 0]
    assert np.allclose(near[:, 5], 1) and np.allclose(near[:, 44:], factor[:, 44:])
    assert np.array_equal(
        agreement_weights(chroma, 2, 0.5), agreement_weights(chroma, 2)
    )  # no word for it
    grey = np.zeros((3, 2, 8, 8))
    assert np.isfinite(agreement_weights(grey, 3, 0.5)).all()


def test_window_means_are_those_of_scipy():
    x = np.random.default_rng(2).normal(0, 1, (3, 9, 14))
    inside = uniform_filter(np.ones_like(x), (0, 5, 5), mode="constant")
    expected = uniform_filter(x, (0, 5, 5), mode="constant") / inside
    assert np.allclose(window_mean(x, 2), expected)


def test_the_result_is_what_the_candidates_agree_on(pipe, photo):
    options = {"output_type": "latent", "generator": seeds(3)}
    drawn = pipe(photo, 3, num_samples=8, output_uncertainty=True, **options)
    options["generator"] = seeds(3)
    kept = pipe(
        photo,
        3,
        num_samples=2,
        num_candidates=4,
        output_uncertainty=True,
        output_intermediates=True,
        match_input_resolution=False,
        **options,
    )
    sorted_by_warmth = drawn.images[warmth_order(drawn.images.numpy(), 4)]
    weights = agreement_weights(sorted_by_warmth.numpy(), 4)
    expected = agree(sorted_by_warmth, torch.from_numpy(weights))
    assert torch.allclose(kept.images, expected, atol=1e-4)
    assert kept.images[0].mean() < kept.images[1].mean()  # from cool to warm
    assert [len(film) for film in kept.intermediates] == [3, 3]
    spread = drawn.images.var(dim=0).sum(0).sqrt()
    shown = torch.from_numpy(kept.uncertainty[0])
    assert torch.allclose(shown.mean(), spread.mean(), rtol=0.2) and shown.shape == (32, 45)


def test_several_results_are_made_of_like_candidates():
    generator = np.random.default_rng(3)
    chroma = generator.normal(0, 5, (6, 2, 8, 8))
    chroma += np.array([20, -20, 0, 1, -21, 21])[:, None, None, None]
    assert warmth_order(chroma, 3).tolist()[:3] in ([4, 1, 2], [1, 4, 2])
    assert sorted(warmth_order(chroma, 3)[3:]) == [0, 3, 5]
    for candidates in (1, 2, 6):  # these agree on nothing, or are all of one result
        assert warmth_order(chroma, candidates).tolist() == list(range(6))


def test_several_results_share_the_candidates_of_one(pipe, photo):
    """Each keeps four, and in the second look none has more."""
    shapes, options = [], {"num_inference_steps": 3, "num_candidates": 6, "second_look": 1.25}

    def watch(pipe, step, timestep, tensors):
        shapes.append(len(tensors["latents"]))
        return {}

    for samples in (1, 2, 3):
        options |= {"num_samples": samples, "callback_on_step_end": watch}
        assert len(pipe(photo, **options).images) == samples
    assert shapes == [6, 6, 6, 4, 8, 8, 8, 8, 12, 12, 12, 12]


def test_candidates_by_default(make_unet, photo):
    pipe = make_pipe(make_unet("grid"), default_num_candidates=3, default_eta=1.0)
    one = pipe(photo, 2, generator=seeds(0), output_uncertainty=True)
    again = pipe(photo, 2, generator=seeds(0), num_candidates=3)
    free = pipe(photo, 2, generator=seeds(0), num_candidates=1)
    assert np.array_equal(np.asarray(one.images[0]), np.asarray(again.images[0]))
    assert not np.array_equal(np.asarray(one.images[0]), np.asarray(free.images[0]))
    assert len(one.uncertainty) == 1


def test_hints_change_the_colours(pipe, photo):
    plain = pipe(photo, 3, generator=seeds(0), output_type="latent").images[0]
    hints = [Hint(20, 20, "#c02020", radius=8)]
    hinted = pipe(photo, 3, generator=seeds(0), hints=hints, output_type="latent").images[0]
    assert not torch.allclose(plain, hinted)
    both = pipe([photo] * 2, 3, generator=seeds(0, 0), hints=[hints, []], output_type="latent")
    assert torch.allclose(both.images[0], hinted, atol=1e-3)
    assert torch.allclose(both.images[1], plain, atol=1e-3)


def test_the_default_saturation_leaves_hints_as_given(make_unet, photo, monkeypatch):
    def seen(saturation: float) -> torch.Tensor:
        """(1, 3, H, W): the hints that the encoder gets."""
        pipe, conditions = make_pipe(make_unet("hints"), default_saturation=saturation), []
        encode = pipe.unet.encode
        monkeypatch.setattr(pipe.unet, "encode", lambda x: conditions.append(x) or encode(x))
        pipe(photo, 1, hints=[Hint(20, 20, "#c02020", radius=8)])
        return conditions[0][:, 1:]

    plain, strong = seen(1.0), seen(1.5)
    assert plain[:, :2].abs().max() > 0
    assert torch.allclose(strong[:, :2] * 1.5, plain[:, :2])
    assert torch.equal(strong[:, 2], plain[:, 2])


def test_a_network_sees_how_sure_a_hint_is(make_unet, photo, monkeypatch):
    pipe, conditions = make_pipe(make_unet("hints")), []
    encode = pipe.unet.encode
    monkeypatch.setattr(pipe.unet, "encode", lambda x: conditions.append(x) or encode(x))
    for confidence in (1.0, 0.25):
        pipe(photo, 1, hints=[(20, 20, "#c02020", 8, confidence)])
    certain, doubtful = conditions
    assert certain[:, 3].max() == 1
    assert torch.equal(doubtful[:, :3], certain[:, :3])
    assert torch.equal(doubtful[:, 3], 0.25 * certain[:, 3])


@pytest.mark.parametrize("balance", [0.0, 0.5])
def test_only_certain_hints_switch_balance_off(make_unet, photo, balance):
    pipe = make_pipe(make_unet("hints"), default_num_candidates=4, chroma_balance=balance)
    places = [(x, y) for x in range(6, photo.size[0], 12) for y in range(6, photo.size[1], 12)]
    results = []
    for confidence in (1.0, 0.99):
        hints = [Hint(x, y, "#c02020", confidence=confidence) for x, y in places[::2]]
        generator = torch.Generator().manual_seed(0)
        output = pipe(photo, 1, hints=hints, generator=generator, output_type="latent")
        results.append(output.images[0])
    assert torch.equal(*results) == (balance == 0)


@pytest.mark.parametrize("scheduler", [OffsetCosineScheduler, None, DDIMScheduler])
def test_hints_are_met(make_unet, photo, scheduler):
    saturation, films = 1.5, []

    def look(pipe, step, timestep, tensors):
        films.append(tensors["chroma"][0])
        return {}

    shown = {"default_saturation": saturation, "default_num_candidates": 3}
    shown |= {"chroma_balance": 0.5, "chroma_coring": 7.0, "chroma_texture": 3.0}
    pipe = make_pipe(make_unet("hints"), **shown)
    pipe.register_modules(scheduler=scheduler and scheduler())
    hint = Hint(20, 20, "#c02020")
    options = {"output_type": "latent", "callback_on_step_end": look if scheduler else None}
    options["callback_on_step_end_tensor_inputs"] = ["chroma"]
    for one, halved in ((hint, 1.0), (hint, 0.5)):
        chroma = pipe(photo, 3, hints=[one], saturation=halved, **options).images[0]
        side = photo.size[0] / chroma.shape[2], photo.size[1] / chroma.shape[1]
        cell = int(20 / side[1]), int(20 / side[0])
        there = chroma[:, cell[0], cell[1]]
        assert torch.allclose(there, halved * torch.from_numpy(one.chroma()).float(), atol=1e-3)
    assert len(films) == (6 if scheduler else 0)
    for film, halved in zip(films, [1.0] * 3 + [0.5] * 3, strict=False):
        assert torch.allclose(film[:, cell[0], cell[1]], 2 * halved * there, atol=1e-3)


@pytest.mark.parametrize("scheduler", ["OffsetCosineScheduler", *COMPATIBLE])
def test_second_look(make_unet, photo, scheduler):
    """Large pictures are coloured twice: finer the second time, from the first colours on."""
    pipe = make_pipe(make_unet("hints"), default_processing_resolution=16)
    if scheduler in COMPATIBLE:
        pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
    starts, grids, steps = [], [], []

    def watch(pipe, step, timestep, tensors):
        steps.append(step)
        clean = tensors["pred_original_sample"]
        if not grids or grids[-1] != clean.shape[2:]:
            starts.append(float(timestep))
            grids.append(clean.shape[2:])
        return {}

    options = {"callback_on_step_end": watch, "output_type": "latent", "second_look": 2}
    options["callback_on_step_end_tensor_inputs"] = ["pred_original_sample"]
    small = photo.resize((31, 31))
    first, second = pipe([photo, small], 8, generator=seeds(0, 1), **options).images
    assert steps == list(range(pipe.num_timesteps))
    if pipe.scheduler.order == 1:  # others call the network twice a step
        assert pipe.num_timesteps == 2 * 8 + 1  # of four, the one below timestep 400
    assert first.shape[1:] == (8, 12) and second.shape[1:] == (4, 4)  # 40x56 at 32, 31x31 at 16
    assert starts[0] > 900 and starts[-1] < 400 and len(grids[-1]) == 2
    (alone,) = pipe(photo, 8, generator=seeds(0), output_type="latent", second_look=2).images
    assert torch.equal(alone, first)
    (once,) = pipe(small, 8, generator=seeds(1), output_type="latent").images
    assert torch.equal(once, second)


def test_second_look_starts_from_the_first(make_unet, photo, monkeypatch):
    """Part of the way back to noise, the sample is the first look's colours, finer, and noise."""
    pipe = make_pipe(make_unet("hints"), default_processing_resolution=16)
    samples, predict = [], ColorSampler.predict

    def watch(sampler, latents, timestep, condition):
        samples.append((int(timestep), latents))
        return predict(sampler, latents, timestep, condition)

    monkeypatch.setattr(ColorSampler, "predict", watch)
    pipe(photo, 4, second_look=2, temperature=0.0)
    (before, seen), (timestep, start) = samples[3:5]
    assert before > 0 and timestep == 332 and start.shape[2:] != seen.shape[2:]
    first = pipe(photo, 4, second_look=1, temperature=0.0, output_type="latent").images[0]
    signal = pipe.scheduler.alphas_cumprod[timestep].sqrt()
    wanted = torch.nn.functional.interpolate(
        signal * first[None] / pipe.unet.config.ab_scale, (8, 12), mode="bilinear", antialias=True
    )
    assert torch.allclose(start, wanted, atol=1e-5)


def test_hints_are_met_in_the_second_look(make_unet, photo):
    pipe = make_pipe(make_unet("hints"), default_processing_resolution=16)
    hint = Hint(20, 20, "#c02020")
    options = {"hints": [hint], "num_candidates": 3, "output_type": "latent"}
    chroma = pipe(photo, 3, second_look=2, **options).images[0]
    there = chroma[:, int(20 / 40 * 8), int(20 / 56 * 12)]
    assert torch.allclose(there, torch.from_numpy(hint.chroma()).float(), atol=1e-3)


def test_film_and_doubt_of_two_looks(make_unet, photo):
    pipe = make_pipe(make_unet("hints"), default_processing_resolution=16)
    options = {"num_samples": 2, "output_uncertainty": True, "output_intermediates": True}
    two, one = (
        pipe(photo, 4, generator=seeds(0), second_look=times, **options) for times in (2, 1)
    )
    assert [len(film) for film in two.intermediates] == [5, 5]
    assert {frame.size for frame in two.intermediates[0]} == {(45, 32)}
    assert np.array_equal(two.uncertainty[0], one.uncertainty[0])  # the first look's


def test_no_second_look_after_an_interruption(make_unet, photo):
    pipe, calls = make_pipe(make_unet("hints"), default_processing_resolution=16), []

    def stop(pipe, step, timestep, tensors):
        calls.append(step)
        pipe.interrupt = True
        return tensors

    result = pipe(photo, 4, second_look=2, callback_on_step_end=stop, output_type="latent")
    assert calls == [0] and result.images[0].shape[1:] == (4, 6)


@pytest.mark.parametrize("kind", ["seed", None])
def test_second_look_is_for_models_that_denoise_chroma(make_unet, photo, kind):
    pipe = make_pipe(make_unet(kind or "grid"))
    if kind is None:
        pipe.register_modules(scheduler=None)
    with pytest.raises(ValueError, match="`second_look` must be 1"):
        pipe(photo, second_look=2)


def test_hints_need_a_model_with_hint_channels(make_unet, photo):
    with pytest.raises(ValueError, match="takes no colour hints"):
        make_pipe(make_unet("grid"))(photo, hints=[Hint(1, 1, "#ffffff")])


def test_callback(pipe, photo):
    calls = []

    def callback(pipe, step, timestep, tensors):
        calls.append((step, int(timestep), tensors["latents"].shape))
        return {"latents": torch.zeros_like(tensors["latents"])}

    chroma = pipe(photo, 4, callback_on_step_end=callback, output_type="latent").images[0]
    assert [step for step, *_ in calls] == [0, 1, 2, 3]
    assert calls[0][1] == 999 and pipe.num_timesteps == 4
    assert chroma.abs().max() == 0  # the last step's tensors are used


def test_callback_sees_the_clean_estimate(pipe, photo):
    estimates = []

    def callback(pipe, step, timestep, tensors):
        estimates.append((tensors["pred_original_sample"], tensors["chroma"]))
        return {}

    final = pipe(
        photo,
        3,
        output_type="latent",
        callback_on_step_end=callback,
        callback_on_step_end_tensor_inputs=["pred_original_sample", "chroma"],
    ).images[0]
    assert len(estimates) == 3 and estimates[0][0].shape == estimates[2][0].shape
    clean, chroma = estimates[2]
    assert torch.equal(clean[0] * pipe.unet.config.ab_scale, final)
    assert torch.equal(chroma[0], final)


def test_interrupt(pipe, photo):
    calls = []

    def stop(pipe, step, timestep, tensors):
        calls.append(step)
        pipe.interrupt = True
        return tensors

    pipe(photo, 10, callback_on_step_end=stop)
    assert calls == [0]
    pipe(
        photo, 2, callback_on_step_end=lambda pipe, step, t, tensors: calls.append(step) or tensors
    )
    assert calls == [0, 0, 1]


def test_an_interrupted_picture_has_an_estimate_without_noise(pipe, photo):
    estimates = []

    def stop(pipe, step, timestep, tensors):
        estimates.append(tensors["pred_original_sample"])
        pipe.interrupt = step == 1

    names = {"callback_on_step_end_tensor_inputs": ["pred_original_sample"]}
    chroma = pipe(photo, 9, output_type="latent", callback_on_step_end=stop, **names).images[0]
    assert len(estimates) == 2
    assert torch.equal(chroma, estimates[1][0] * pipe.unet.config.ab_scale)


def test_an_interruption_leaves_later_pictures_grey(pipe, photo):
    def stop(pipe, step, timestep, tensors):
        pipe.interrupt = True
        return tensors

    options = {"callback_on_step_end": stop, "batch_size": 1, "output_uncertainty": True}
    output = pipe([photo, photo], 4, num_samples=2, output_type="latent", **options)
    first, second = output.images.split(2)
    assert first.abs().max() > 0 and second.abs().max() == 0
    assert output.uncertainty[1].max() == 0


def test_steps_count_through_looks_and_batches(make_unet, photo):
    pipe, seen = make_pipe(make_unet("hints"), default_processing_resolution=16), []

    def callback(pipe, step, timestep, tensors):
        seen.append((step / pipe.num_timesteps, pipe.current_look))
        return {}

    pipe([photo, photo], 8, second_look=2, batch_size=1, callback_on_step_end=callback)
    assert [round(share * 18) for share, _ in seen] == list(range(18))
    assert [look for _, look in seen] == [1] * 16 + [2] * 2


def test_a_callback_of_diffusers_gets_the_tensors_it_names(pipe, photo):
    class Watch(PipelineCallback):
        tensor_inputs: ClassVar[list[str]] = ["chroma"]

        def callback_fn(self, pipeline, step_index, timestep, callback_kwargs):
            shapes.append({name: x.shape for name, x in callback_kwargs.items()})
            return callback_kwargs

    shapes = []
    watch = Watch(cutoff_step_ratio=1.0)
    pipe(photo, 3, num_samples=2, callback_on_step_end=watch)
    assert shapes == [{"chroma": (2, 2, 8, 12)}] * 3


def test_a_photograph_is_turned_upright(pipe, photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    turned = Image.open(tmp_path / "turned.png")
    options = {"output_type": "latent", "num_inference_steps": 2}
    (want,) = pipe(photo, generator=seeds(0), **options).images
    (got,) = pipe(turned, generator=seeds(0), **options).images
    assert torch.equal(got, want)


def test_a_photograph_of_another_profile_keeps_its_light(pipe, photo):
    """A grey picture with a linear profile has the luminance that its profile says."""
    linear = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = photo.convert("RGB")
    same = plain.copy()
    same.info["icc_profile"] = linear
    processor = pipe.image_processor
    assert (processor.to_luminance(same) - processor.to_luminance(plain)).abs().max() < 0.5
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    damaged = plain.copy()
    damaged.info["icc_profile"] = lab[:50]
    assert torch.equal(processor.to_luminance(damaged), processor.to_luminance(plain))


def test_a_hint_may_be_a_tuple(pipe, photo):
    (want,) = pipe(photo, 2, hints=[Hint(9, 9, "#aa2020")], generator=seeds(0)).images
    (got,) = pipe(photo, 2, hints=[(9, 9, "#aa2020")], generator=seeds(0)).images
    assert np.array_equal(np.asarray(got), np.asarray(want))
    for wrong in (
        ["#aa2020"],
        5,
        ("a", 9, "red"),
        (9, None, "red"),
        [(9, 9)],
        [Hint(9, 9, "red", "x")],
        [Hint(9, 9, "red", None, "x")],
    ):
        with pytest.raises(ValueError, match="A hint is"):
            pipe(photo, hints=[wrong])


def test_a_variant_is_stored_in_its_precision(pipe, tmp_path):
    pipe.save_pretrained(tmp_path, variant="fp16")
    (file,) = (tmp_path / "unet").glob("*.fp16.safetensors")
    assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float16}
    assert pipe.unet.dtype == torch.float32


def test_a_name_that_nothing_has():
    with pytest.raises(ValueError, match="'defualt'.*default"):
        ColorizationPipeline.from_pretrained("defualt")


def test_folders_of_an_earlier_version_load(make_unet, tmp_path):
    make_pipe(make_unet("hints"), default_second_look=2.0).save_pretrained(tmp_path)
    file = tmp_path / "model_index.json"
    index = json.loads(file.read_text())
    index["default_refinement"] = index.pop("default_second_look")
    file.write_text(json.dumps(index))
    assert ColorizationPipeline.from_pretrained(tmp_path).config.default_second_look == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"num_inference_steps": 1001}, "between 1 and 1000"),
        ({"num_samples": 0}, "num_samples"),
        ({"batch_size": 0}, "batch_size"),
        ({"processing_resolution": -1}, "processing_resolution"),
        ({"eta": 1.5}, "eta"),
        ({"second_look": 0.5}, "`second_look` must be 1 or more"),
        ({"temperature": -1.0}, "temperature"),
        ({"saturation": -1.0}, "saturation"),
        ({"output_type": "jpeg"}, "output_type"),
        ({"generator": seeds(0, 1)}, "one generator a picture"),
        ({"hints": [[], []]}, "one list a picture"),
        ({"eta": "a"}, "`eta` must be a number"),
        ({"saturation": "x"}, "`saturation` must be a number"),
        ({"second_look": "2"}, "`second_look` must be a number"),
        ({"strength": None}, "`strength` must be a number"),
        ({"generator": 7}, "`generator` is a Generator of torch"),
        ({"generator": ["x"]}, "`generator` is a Generator of torch"),
        ({"hints": 5}, "`hints` is a list of hints"),
        ({"hints": "red"}, "`hints` is a list of hints"),
        ({"reference_images": 5}, "`reference_images`"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "noise"),
    ],
)
def test_wrong_arguments(pipe, photo, options, message):
    with pytest.raises(ValueError, match=message):
        pipe(photo, **options)


def test_whole_numbers_may_be_numpys(pipe, photo):
    numbers = {"num_inference_steps": 2, "num_samples": 2, "num_candidates": 3, "batch_size": 1}
    numbers |= {"processing_resolution": 64}
    want = pipe(photo, **numbers, generator=seeds(0), output_type="latent").images
    numbers = {name: np.int64(value) for name, value in numbers.items()}
    got = pipe(photo, **numbers, generator=seeds(0), output_type="latent").images
    assert torch.equal(got, want)


def test_save_and_load(pipe, photo, tmp_path):
    want = pipe(photo, 3, generator=seeds(0), output_type="latent").images[0]
    pipe.save_pretrained(tmp_path / "model")
    assert {path.suffix for path in (tmp_path / "model").rglob("*.*")} == {
        ".json",
        ".py",
        ".safetensors",
    }
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline", "ColorizationPipeline"]
    assert index["unet"] == ["unet", "ColorizationUNet"]
    assert "_name_or_path" not in index
    loaded = ColorizationPipeline.from_pretrained(tmp_path / "model", dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    assert type(loaded) is ColorizationPipeline
    assert loaded.config.default_processing_resolution == 32
    got = loaded(photo, 3, generator=seeds(0), output_type="latent").images[0]
    assert torch.allclose(got, want, atol=0.01)
    loaded.scheduler = diffusers.UniPCMultistepScheduler.from_config(loaded.scheduler.config)
    loaded.save_pretrained(tmp_path / "swapped")
    again = ColorizationPipeline.from_pretrained(tmp_path / "swapped")
    assert type(again.scheduler) is diffusers.UniPCMultistepScheduler


def test_a_compiled_network_is_saved_as_it_was(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    loaded = ColorizationPipeline.from_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    loaded._stored_variant = ""  # as where the CPU has bfloat16
    loaded.unet = torch.compile(loaded.unet, backend="eager")
    loaded.save_pretrained(tmp_path / "again")
    again = ColorizationPipeline.from_pretrained(tmp_path / "again", dtype=torch.float32)
    for name, tensor in pipe.unet.state_dict().items():
        assert torch.equal(again.unet.state_dict()[name], tensor)


def test_from_another_pipeline(pipe):
    pipe.unet.bfloat16()
    other = ColorizationPipeline.from_pipe(pipe, default_eta=0.5)
    assert other.unet is pipe.unet and other.unet.dtype == torch.bfloat16
    assert other.config.default_eta == 0.5 and other.config.default_processing_resolution == 32


def test_the_encoder_moves_with_its_network(pipe, photo):
    """`enable_model_cpu_offload` brings a network to its device when it is called."""
    calls = []

    class Hook:
        def pre_forward(self, module):
            calls.append(module)

    pipe.unet._hf_hook = Hook()
    pipe.unet.encode(torch.zeros(1, 4, 32, 32))
    assert calls == [pipe.unet]


def test_weights_of_eight_bits(pipe, photo):
    options = {"output_type": "latent", "processing_resolution": 32}
    full = pipe(photo, 3, generator=seeds(0), **options).images[0]
    pipe.unet.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    less = pipe(photo, 3, generator=seeds(0), **options).images[0]
    assert (full - less).norm(dim=0).mean() < full.norm(dim=0).mean() / 2


PLAIN_DIFFUSERS = """
import sys
sys.path = [path for path in sys.path if path]  # without the working directory
import numpy, torch
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
assert not any(name.split(".")[0] == "pipeline_colorize" for name in sys.modules)
chroma = pipe(
    numpy.load(sys.argv[2]), 3, generator=[torch.Generator().manual_seed(0)], output_type="latent"
).images[0]
numpy.save(sys.argv[3], chroma.numpy())
pipe.save_pretrained(sys.argv[4])
"""


@pytest.mark.slow
@pytest.mark.process
def test_plain_diffusers_opens_what_is_saved(pipe, photo, tmp_path):
    want = pipe(photo, 3, generator=seeds(0), output_type="latent").images[0]
    pipe.save_pretrained(tmp_path / "model")
    np.save(tmp_path / "photo.npy", np.asarray(photo))
    paths = [str(tmp_path / name) for name in ("model", "photo.npy", "chroma.npy", "again")]
    subprocess.run([sys.executable, "-c", PLAIN_DIFFUSERS, *paths], check=True, cwd=tmp_path)
    assert np.allclose(np.load(paths[2]), want, atol=0.01)
    again = ColorizationPipeline.from_pretrained(paths[3], dtype=torch.float32)
    got = again(photo, 3, generator=seeds(0), output_type="latent").images[0]
    assert torch.allclose(got, want, atol=0.01)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="no-such-model.*neither a valid local path"):
        ColorizationPipeline.from_pretrained(tmp_path / "no-such-model")


def test_no_code_of_a_folder_is_run(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    hostile = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    for file in ("pipeline.py", "unet/unet.py", "scheduler/scheduler.py"):
        (tmp_path / file).write_text(hostile)
    ColorizationPipeline.from_pretrained(tmp_path)
    assert not (tmp_path / "ran").exists()


def in_margins(photo, level, share=0.6):
    """A grey photograph on an even ground, and its box (left, top, right, bottom)."""
    grey = photo.convert("L")
    width, height = (round(side * (1 + share)) for side in grey.size)
    left, top = (width - grey.width) // 2, (height - grey.height) // 2
    page = Image.new("L", (width, height), level)
    page.paste(grey, (left, top))
    return page, (left, top, left + grey.width, top + grey.height)


@pytest.fixture
def print_on_lid(make_picture):
    rgb = make_picture(120, 160)
    noise = np.random.default_rng(0).normal(0, 12, (120, 160, 1))
    pixels = (rgb.movedim(0, -1).numpy() * 150 + 50 + noise).clip(30, 220)
    return Image.fromarray(pixels.astype(np.uint8)).convert("L")


@pytest.mark.parametrize("level", [3, 128, 250])
def test_a_margin_decides_no_colours_and_stays_neutral(pipe, print_on_lid, level):
    page, box = in_margins(print_on_lid, level)
    options = {"num_inference_steps": 2, "num_samples": 2, "output_uncertainty": True}
    bare = pipe(print_on_lid, generator=seeds(0), **options)
    framed = pipe(page, generator=seeds(0), **options)
    for want, got in zip(bare.images, framed.images, strict=True):
        assert got.size == page.size
        assert np.array_equal(np.asarray(got.crop(box)), np.asarray(want))
        margin = np.ptp(np.asarray(got), axis=-1)
        margin[box[1] : box[3], box[0] : box[2]] = 0
        assert margin.max() == 0
        assert luminance_error(page, got) <= 100 / 255
    assert framed.uncertainty[0].shape == page.size[::-1]
    assert framed.boxes == [(box[1], box[3], box[0], box[2])]
    assert bare.boxes == [(0, print_on_lid.height, 0, print_on_lid.width)]
    whole = pipe(page, generator=seeds(0), find_margins=False, **options).images[0]
    assert np.ptp(np.asarray(whole)[: box[1]], axis=-1).max() > 0


def test_margins_in_every_kind_of_output(pipe, print_on_lid):
    page, box = in_margins(print_on_lid, 5)
    options = {"num_inference_steps": 2, "generator": seeds(0)}
    chroma = pipe(page, output_type="latent", **options).images[0]
    assert chroma[:, 0].abs().max() == 0 and chroma.abs().max() > 0
    pixels = pipe(page, output_type="np", **options).images[0]
    assert pixels.shape == (*page.size[::-1], 3)
    assert np.allclose(pixels[: box[1] - 1], 5 / 255, atol=1e-3)
    output = pipe(page, match_input_resolution=False, output_intermediates=True, **options)
    assert {frame.size for frame in output.intermediates[0]} == {output.images[0].size}


def test_hints_are_placed_inside_margins(pipe, print_on_lid):
    page, box = in_margins(print_on_lid, 3)
    options = {"num_inference_steps": 2}
    (want,) = pipe(
        print_on_lid, hints=[Hint(40, 50, "#c02020")], generator=seeds(0), **options
    ).images
    moved = [Hint(40 + box[0], 50 + box[1], "#c02020")]
    (got,) = pipe(page, hints=moved, generator=seeds(0), **options).images
    assert np.array_equal(np.asarray(got.crop(box)), np.asarray(want))
    with pytest.raises(ValueError, match="margins are not coloured"):
        pipe(page, hints=[Hint(2, 2, "#c02020")], **options)


def test_the_parts_of_a_pipeline_carry_its_options(make_unet):
    options = {"default_num_inference_steps": 3, "default_saturation": 1.2, "chroma_coring": 4.0}
    pipe = ColorizationPipeline(make_unet("grid"), OffsetCosineScheduler(), **options)
    again = ColorizationPipeline(**pipe.components)
    assert dict(again.config) == dict(pipe.config)
    changed = ColorizationPipeline(**pipe.components, default_num_inference_steps=7)
    assert changed.config.default_num_inference_steps == 7
    assert changed.config.default_saturation == 1.2
    assert dict(ColorizationPipeline(**pipe.components).config) == dict(pipe.config)
    plain = ColorizationPipeline(make_unet("grid"), OffsetCosineScheduler())
    assert plain.config.default_num_inference_steps == 20
    assert plain.config.default_saturation == 1


@pytest.mark.parametrize("name", shipped_models())
def test_plain_diffusers_opens_a_folder_that_ships(name):
    folder = MODELS / name
    held = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.py")}
    assert held == package_code(folder)
    pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    ours = ColorizationPipeline.from_pretrained(name)
    assert type(pipe) is ColorizationPipeline and type(pipe.unet) is type(ours.unet)
    options = [name for name in ours.config if name.startswith(("default_", "chroma_"))]
    assert [pipe.config[name] for name in options] == [ours.config[name] for name in options]
