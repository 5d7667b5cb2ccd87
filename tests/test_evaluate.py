"""scripts/evaluate.py, from pictures in a folder to its report."""

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
from click.testing import CliRunner
from conftest import load_script, smooth_picture, tiny_unet
from huggingface_hub import ModelCard
from PIL import Image

from pipeline_colorize import ColorizationPipeline, OffsetCosineScheduler
from pipeline_colorize.core.image_processor import ColorizationImageProcessor
from pipeline_colorize.evaluation import metrics, pairs
from pipeline_colorize.evaluation.protocol import EvaluationSettings, measure_with_hints
from pipeline_colorize.evaluation.report import to_markdown

for name in ("accelerate", "datasets"):
    pytest.importorskip(name)
SCRIPT = Path(__file__).parents[1] / "scripts" / "evaluate.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, seven pictures of two sizes and a model card."""
    folder = tmp_path_factory.mktemp("evaluate")
    scheduler = OffsetCosineScheduler(prediction_type="v_prediction")
    ColorizationPipeline(tiny_unet("hints"), scheduler).save_pretrained(folder / "model")
    (folder / "pictures").mkdir()
    for index in range(7):
        picture = smooth_picture(32, 32 + 16 * (index % 2), seed=index)
        array = (picture.movedim(0, -1).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(array).save(folder / "pictures" / f"{index}.png")
    ModelCard("---\nlicense: apache-2.0\n---\n# A model\n").save(folder / "README.md")
    return folder


def arguments(folder, output, *options) -> list[str]:
    fixed = ("--model", folder / "model", "--data", folder / "pictures", "--split", "train")
    few = ("--steps", 2, "--samples", 3, "--batch-size", 2, "--processing-resolution", 16)
    few += ("--hints", 2, "--hints", 7, "--mean-color", "train")
    return [str(part) for part in (*fixed, *few, "--output", folder / output, *options)]


def run(folder, output, *options, launch=(sys.executable,)):
    environment = dict(os.environ, ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1")
    environment["HF_DATASETS_CACHE"] = str(folder / "cache")
    environment["PYTHONPATH"] = str(SCRIPT.parents[1])
    command = [*launch, str(SCRIPT), *arguments(folder, output, *options)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def report(folder):
    done = run(folder, "one", "--card", folder / "README.md")
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "one" / "results.json").read_text())


@pytest.mark.slow
def test_the_report_has_the_figures_of_every_picture(folder, report):
    text, results = report
    assert text.strip() == (folder / "one" / "results.md").read_text().strip()
    records = [json.loads(line) for line in (folder / "one" / "pictures.jsonl").open()]
    assert [record["index"] for record in records] == list(range(7))
    summary = results["sets"]["pictures"]
    assert summary["pictures"] == 7
    mean = np.mean([record["sample"]["ciede2000"] for record in records])
    assert summary["sample"]["ciede2000"] == pytest.approx(mean)
    assert f"{mean:.2f} ({mean / summary['grey']['ciede2000']:.2f})" in text
    assert summary["best"]["ciede2000"] <= summary["sample"]["ciede2000"]
    assert 0 < summary["luminance_error"] <= 100 / 255
    odd, pale = (np.mean([one["sample"][kind] for one in records]) for kind in ("odd", "pale"))
    assert f"| {odd:.1%} / " in text and f"| {pale:.1%} / " in text and odd > 0
    assert Image.open(folder / "one" / "pictures.png").width > 6 * 160
    if line := metrics.missing_network("LPIPS"):
        assert line in text


@pytest.mark.slow
def test_the_figures_are_those_of_the_pipeline(folder, report):
    import torch

    pipe = ColorizationPipeline.from_pretrained(folder / "model")
    truth = Image.open(folder / "pictures" / "4.png")
    # The batch of the script, so that even bfloat16 rounds the same way.
    figures = []
    for count in (1, 3):
        images = pipe(
            [truth, Image.open(folder / "pictures" / "5.png")],
            2,
            num_samples=count,
            processing_resolution=16,
            generator=[torch.Generator().manual_seed(seed) for seed in (4, 5)],
        ).images[:count]
        figures.append([metrics.compare(np.asarray(one), np.asarray(truth)) for one in images])
    record = json.loads((folder / "one" / "pictures.jsonl").read_text().splitlines()[4])
    [alone], together = figures
    for name in ("ciede2000", "psnr", "colorfulness", "blotches"):
        assert record["sample"][name] == pytest.approx(alone[name])
    assert record["best"]["psnr"] == pytest.approx(max(one["psnr"] for one in together))


@pytest.mark.slow
def test_a_model_card_is_filled(folder, report):
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "apache-2.0" and "# A model" in card.content
    figures = {result.metric_name: result.metric_value for result in card.data.eval_results}
    summary = report[1]["sets"]["pictures"]
    assert figures["PSNR, one sample"] == pytest.approx(summary["sample"]["psnr"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.process
def test_two_processes_give_the_same(folder, report):
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    done = run(folder, "two", launch=(sys.executable, *launch))
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "two" / "results.json").read_text())["processes"] == 2
    for name in ("pictures.jsonl", "pictures.png"):
        assert (folder / "two" / name).read_bytes() == (folder / "one" / name).read_bytes()


@pytest.mark.slow
def test_the_weights_are_named_by_their_checksum(folder, report):
    weights = (folder / "model" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    model = report[1]["model"]
    assert list(model["sha256"].values()) == [hashlib.sha256(weights).hexdigest()]
    assert model["parameters"] == sum(one.numel() for one in tiny_unet("hints").parameters())
    assert model["seconds_per_coloring"] > 0
    assert f"{model['parameters']:,} parameters" in report[0]


@pytest.mark.slow
def test_one_colour_everywhere(folder, report):
    """With the mean colour of the pictures themselves, no other constant has a smaller error."""
    summary = report[1]["sets"]["pictures"]
    truths = [Image.open(folder / "pictures" / f"{index}.png") for index in range(7)]
    labs = [metrics.to_lab(np.asarray(truth)) for truth in truths]
    mean = np.mean([lab[..., 1:].mean((0, 1)) for lab in labs], 0)
    assert summary["constant_chroma"] == pytest.approx(mean.tolist(), abs=1e-4)
    # Gamut mapping makes some pixels duller.
    least = np.mean([np.square(lab[..., 1:] - mean).mean() for lab in labs])
    assert summary["constant"]["ab_mse"] == pytest.approx(least, rel=0.02)
    assert summary["constant"]["ab_mse"] < summary["grey"]["ab_mse"]


@pytest.mark.slow
def test_colour_hints_are_reported(report):
    hints = report[1]["sets"]["pictures"]["hints"]
    assert hints["counts"] == [0, 1, 2, 7]
    assert "PSNR with 0 / 1 / 2 / 7" in report[0]
    assert f"/ {hints['psnr'][3]:.2f} |" in report[0]
    assert hints["reach"][0] > hints["reach"][-1]  # even with weights drawn by chance


class Obedient:
    """In place of a pipeline: grey but for the cells of its hints, which it colours exactly."""

    image_processor = ColorizationImageProcessor(chroma_stride=4, stride=8)
    config = SimpleNamespace(default_processing_resolution=32, default_second_look=1.0)

    def __call__(self, truths, hints, **options):
        return SimpleNamespace(images=[self.color(*one) for one in zip(truths, hints, strict=True)])

    def color(self, truth, hints):
        processor = self.image_processor
        return processor.rasterize_hints(hints, truth.shape[:2], 32)[0, :2]


@pytest.fixture(scope="module")
def evaluate():
    return load_script("evaluate")


def test_hints_that_are_obeyed_are_met_and_help():
    truths = [
        (255 * smooth_picture(*size, seed=seed).movedim(0, -1).numpy()).astype(np.uint8)
        for seed, size in enumerate([(48, 48), (50, 71)])
    ]
    settings = EvaluationSettings(hints=(5, 20))
    records = measure_with_hints(Obedient(), truths, [0, 1], settings)
    for record in records:
        assert record[20]["grid"] == pytest.approx([0] * 20, abs=1e-3)
        psnr = [record[count]["psnr"] for count in (0, 1, 5, 20)]
        assert psnr == sorted(psnr) and psnr[0] + 0.1 < psnr[-1]
        assert record["reach"][0] > 10 * record["reach"][-1]
    summary = metrics.summarize_hints(records)
    assert summary["counts"] == [0, 1, 5, 20]
    assert summary["grid"]["mean"][1:] == pytest.approx([0] * 3, abs=1e-3)
    assert summary["grid"]["met"][1:] == [1, 1, 1]
    assert summary["psnr"][3] == np.mean([record[20]["psnr"] for record in records])


@pytest.mark.slow
def test_a_report_read_from_its_file_says_the_same(report):
    """Model cards are written, and held against the figures, that way."""
    text, results = report
    assert to_markdown(results).strip() == text.strip()
    results = json.loads(json.dumps(results))
    results["sets"]["pictures"]["diversity"] = None  # what NaN becomes in the file
    assert "| nan |" in to_markdown(results)


@pytest.fixture
def refused(folder, evaluate, monkeypatch):
    """A function that gives the command's last words, where it refuses its options."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")

    def call(*options) -> str:
        done = CliRunner().invoke(evaluate.main, arguments(folder, "none", *options))
        assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.output
        return done.stderr

    return call


def test_a_model_without_hints_is_named(folder, refused):
    pipe = ColorizationPipeline(tiny_unet("grid"), OffsetCosineScheduler())
    pipe.save_pretrained(folder / "dumb")
    assert "takes no colour hints" in refused("--model", folder / "dumb")


def test_a_missing_split_is_named(refused):
    assert "nowhere" in refused("--split", "nowhere")


# --- how sure it is, and what it leaves out -------------------------------------------------------


def test_standard_errors_and_pairs_are_those_of_the_textbook():
    def record(index, ciede2000):
        figures = {"ciede2000": ciede2000, "psnr": 20.0, "odd": 0.0, "colorfulness": 10.0}
        return {"index": index, "sample": figures, "mean": figures, "best": figures}

    mine = [record(index, value) for index, value in enumerate([10.0, 12.0, 20.0, 30.0])]
    others = [record(index, value) for index, value in enumerate([11.0, 13.5, 21.0, 29.5])]
    expected = scipy.stats.sem([10, 12, 20, 30])
    assert pairs.standard_errors(mine)["sample ciede2000"] == pytest.approx(expected)
    found = pairs.compare_pairs(mine, others[::-1])["sample ciede2000"]
    differences = [-1, -1.5, -1, 0.5]
    assert found["difference"] == pytest.approx(np.mean(differences))
    assert found["standard_error"] == pytest.approx(scipy.stats.sem(differences))
    assert found["wins"] == 0.75 and found["standard_error"] < expected / 5
    assert pairs.compare_pairs(mine, mine)["sample psnr"]["wins"] == 0.5
    assert math.isnan(pairs.standard_error([1.0]))


@pytest.fixture(scope="module")
def compared(folder):
    """A report on seven pictures and three broken files, beside another model."""
    pictures, options = folder / "some-broken", ("--samples", 1, "--steps", 1, "--batch-size", 2)
    shutil.copytree(folder / "pictures", pictures)
    (pictures / "1.png").write_bytes((pictures / "1.png").read_bytes()[:60])
    (pictures / "2.png").write_bytes(b"no picture")
    (pictures / "3.png").write_bytes(b"")
    scheduler = OffsetCosineScheduler(prediction_type="v_prediction")
    pipe = ColorizationPipeline(tiny_unet("grid"), scheduler)
    pipe.save_pretrained(folder / "other")
    fixed = ("--model", folder / "model", "--data", pictures, "--split", "train")
    fixed += ("--processing-resolution", 16, "--against", folder / "other", *options)
    output = folder / "compared"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
        script = load_script("evaluate")
        done = CliRunner().invoke(script.main, [*map(str, fixed), "--output", str(output)])
    assert done.exit_code == 0, done.output
    return done.stdout, output


def test_broken_pictures_are_named_and_left_out(compared):
    text, output = compared
    rows = [json.loads(line) for line in (output / "pictures.jsonl").open()]
    assert [row["file"] for row in rows] == ["0.png", "4.png", "5.png", "6.png"]
    line = next(line for line in text.splitlines() if line.startswith("Left out of some-broken"))
    assert all(name in line for name in ("1.png", "2.png", "3.png"))
    summary = json.loads((output / "results.json").read_text())["sets"]["some-broken"]
    assert summary["pictures"] == 4 and len(summary["broken"]) == 3


def test_two_models_are_compared_picture_by_picture(compared):
    text, output = compared
    rows = [json.loads(line) for line in (output / "pictures.jsonl").open()]
    differences = [
        row["sample"]["ciede2000"] - row["against"]["sample"]["ciede2000"] for row in rows
    ]
    mean, error = np.mean(differences), scipy.stats.sem(differences)
    assert abs(mean) > 0 and f"{mean:+.2f} ± {error:.2f} (" in text
    error = scipy.stats.sem([row["sample"]["psnr"] for row in rows])
    assert "Standard errors" in text and f"| {error:.2f} |" in text


def test_a_set_without_a_readable_picture_is_refused_by_name(folder, refused):
    (folder / "broken").mkdir()
    (folder / "broken" / "a.png").write_bytes(b"no picture")
    words = refused("--data", folder / "broken")
    assert "no picture that can be read" in words and "a.png" in words
