"""The study of candidates: its settings, its pictures, its figures and its table."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import load_script, smooth_picture, tiny_unet
from PIL import Image

from pipeline_colorize import ColorizationPipeline, OffsetCosineScheduler
from pipeline_colorize.evaluation import metrics

for name in ("accelerate", "datasets", "onnx", "onnxruntime"):
    pytest.importorskip(name)


@pytest.fixture(scope="module")
def study():
    return load_script("studies.candidates")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model and three pictures, of which the last is too large."""
    folder = tmp_path_factory.mktemp("candidates")
    scheduler = OffsetCosineScheduler(prediction_type="v_prediction")
    own = {"default_processing_resolution": 16, "default_num_inference_steps": 2}
    own |= {"default_eta": 1.0, "default_num_candidates": 3}
    ColorizationPipeline(tiny_unet("hints"), scheduler, **own).save_pretrained(folder / "model")
    (folder / "pictures").mkdir()
    for index, (height, width) in enumerate([(32, 32), (32, 48), (64, 128)]):
        picture = smooth_picture(height, width, seed=index)
        array = (picture.movedim(0, -1).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(array).save(folder / "pictures" / f"{index}.png")
    return folder


def test_settings_are_the_model_s_properties(study):
    assert study.parse("3 steps, 16 candidates, saturation 1.2, texture 4") == {
        "default_num_inference_steps": 3,
        "default_num_candidates": 16,
        "default_saturation": 1.2,
        "chroma_texture": 4.0,
    }
    assert study.parse("") == {}
    assert isinstance(study.parse("steps 3")["default_num_inference_steps"], int)
    for wrong in ("3 stepps", "steps", "steps three"):
        with pytest.raises(ValueError, match=wrong):
            study.parse(wrong)


def test_large_pictures_are_made_smaller_and_small_ones_stay(study, folder):
    pictures = study.load(str(folder / "pictures" / "*.png"), "validation", 10, side=32)
    assert [one.shape for one in pictures] == [(32, 32, 3), (32, 48, 3), (32, 64, 3)]
    with Image.open(folder / "pictures" / "1.png") as own:
        assert np.array_equal(pictures[1], np.asarray(own))
    with pytest.raises(ValueError, match="No photographs"):
        study.load(str(folder / "nothing*"), "validation", 10, side=32)


def test_the_setting_is_what_is_measured(study, folder, tmp_path):
    """The figures are those of the pipeline with the same options."""
    study.write_with(folder / "model", study.parse("3 steps, 4 candidates"), tmp_path / "a.onnx")
    pipe = study.ORTColorizationPipeline(tmp_path / "a.onnx")
    [picture] = study.load(str(folder / "pictures" / "0.png*"), "validation", 1, side=32)
    plain = ColorizationPipeline.from_pretrained(folder / "model", dtype="float32")
    plain.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 3, "num_candidates": 4, "output_type": "latent"}
    for count in (1, 2):
        expected = plain(picture, num_samples=count, generator=seeded(7), **options).images
        chroma = study.answers(pipe, picture, 7, count)
        torch.testing.assert_close(chroma, expected, atol=0.05, rtol=0)
    one, two = (plain(picture, generator=seeded(seed), **options).images for seed in (0, 1_000_003))
    figures = study.measure(pipe, [picture], study.StudyOptions(seeds=2, samples=3))
    luminance = plain.image_processor.to_luminance(picture)
    errors = [
        metrics.compare(plain.image_processor.colorize(luminance, one[0]).numpy(), picture)
        for one in (one, two)
    ]
    expected = np.mean([error["ciede2000"] for error in errors])
    assert figures["sample"]["ciede2000"] == pytest.approx(expected, abs=0.01)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_second_run_goes_on_where_the_first_was_stopped(study, folder, tmp_path):
    data = str(folder / "pictures" / "*.png")
    fixed = ["--model", folder / "model", "--data", data, "--side", 32, "--output", tmp_path]

    def run(*settings):
        options = [word for one in settings for word in ("--setting", one)]
        done = CliRunner().invoke(
            load_script("study").main, ["candidates", *map(str, [*fixed, *options])]
        )
        assert done.exit_code == 0, done.output
        return study.read(tmp_path / "figures.jsonl"), done.output

    first, _ = run("saturation .001")
    lines, text = run("saturation .001", "2 candidates")
    assert lines[0] == first[0] and [line["setting"] for line in lines][1:] == ["2 candidates"]
    figures = lines[0]["sets"]["*.png"]
    assert figures["pictures"] == 3
    assert figures["sample"]["ciede2000_ratio"] == pytest.approx(1, abs=0.01)  # of grey's
    assert figures["odd"]["sample"] == 0
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")]
    assert rows == ["| setting", "| saturation .001", "| 2 candidates"]
