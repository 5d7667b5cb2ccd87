"""The four recipes: configurations, the command that runs one, and what they are held against."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import click
import datasets
import numpy as np
import pytest
import torch
from conftest import smooth_picture, tiny_unet
from PIL import Image
from skimage.color import rgb2lab

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import diffusers  # noqa: E402
from accelerate.state import AcceleratorState, GradientState  # noqa: E402

import benchmark  # noqa: E402
import evaluate  # noqa: E402
import pipeline_colorize  # noqa: E402
import recipe as command  # noqa: E402
import recipe_docs  # noqa: E402
import train_colorize  # noqa: E402
from benchmarks import recipes as recipe_speed  # noqa: E402
from benchmarks import systems  # noqa: E402
from pipeline_colorize import ColorizationPipeline, OffsetCosineScheduler, cli  # noqa: E402
from pipeline_colorize.evaluation import metrics  # noqa: E402
from pipeline_colorize.training import baselines, config  # noqa: E402
from pipeline_colorize.training.batches import BatchFormat  # noqa: E402
from pipeline_colorize.training.config import DataConfig  # noqa: E402
from pipeline_colorize.training.optimizers import learning_rate  # noqa: E402
from recipes import pages, recipe, stages  # noqa: E402
from releasing import checks  # noqa: E402

NAMES = ("faces-rgb", "faces-lab", "flowers-ddpm", "driving-regression")
FULL = {name: ROOT / "configs" / f"{name}.yaml" for name in NAMES}
SMALL = {name: ROOT / "configs" / "small" / f"{name}.yaml" for name in NAMES}
BOTH = [*FULL.values(), *SMALL.values()]


@pytest.fixture(autouse=True)
def clean_process():
    """Accelerate keeps its state in the process, and training sets signal handlers."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


def parse(file):
    return config.parse(["--config", str(file)], train_colorize.PARTS, "")


def network(model):
    with torch.device("meta"):
        return config.construct(model.model_class, model.model, [pipeline_colorize, diffusers])


# The configurations


@pytest.mark.parametrize("file", BOTH, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_recipe_has_all_its_parts(file):
    pictures, model, _, run = parse(file)
    built = network(model)
    layout = BatchFormat.of_model(built.config)
    stride = getattr(built, "stride", 2 ** (len(built.config.block_out_channels) - 1))
    assert pictures.resolution % stride == 0
    assert run.output_dir.startswith("runs/") and pictures.datasets[0].startswith("data/")
    if model.scheduler_class != "none":
        modules = [pipeline_colorize, diffusers]
        schedule = config.construct(model.scheduler_class, model.scheduler, modules)
        assert schedule.alphas_cumprod[-1] < 0.02**2 + 1e-6  # it is trained on what it starts from
        steps = run.pipeline["default_num_inference_steps"]
        assert steps <= schedule.config.num_train_timesteps
        known = built.config.get("num_train_timesteps")  # a stock network has no T
        assert known in (None, schedule.config.num_train_timesteps)
    assert layout.color_channels == (3 if file.stem == "faces-rgb" else 2)
    head = file.read_text().split("\noutput_dir")[0]
    assert f"configs/{file.stem}.yaml" in head and "Hardware:" in head


def test_the_published_settings_are_kept():
    sizes = {
        name: sum(parameter.numel() for parameter in network(parse(file)[1]).parameters())
        for name, file in FULL.items()
    }
    assert sizes["faces-rgb"] == 1_955_331
    assert sizes["faces-lab"] == pytest.approx(61.5e6, rel=0.01)
    _, model, optim, run = parse(FULL["faces-rgb"])
    assert (optim.learning_rate, optim.batch_size, optim.num_train_epochs) == (2e-4, 32, 1000)
    assert (optim.ema_decay, optim.ema_warmup) == (0.999, False)
    assert (run.checkpointing_epochs, run.grid_epochs) == (50, 10)
    _, model, optim, _ = parse(FULL["faces-lab"])
    assert optim.learning_rate == 1e-6 and model.scheduler["num_train_timesteps"] == 350
    _, model, optim, run = parse(FULL["flowers-ddpm"])
    assert (model.model_class, model.scheduler_class) == ("UNet2DModel", "DDPMScheduler")
    assert (optim.learning_rate, run.early_stopping_patience) == (1e-4, 10)
    _, _, optim, _ = parse(FULL["driving-regression"])
    rates = [learning_rate(optim, step, 30 * 110) for step in (0, 30 * 110 - 1)]
    assert rates[0] == pytest.approx(1e-3) and rates[1] == pytest.approx(1e-3 / 20, rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_a_small_sibling_is_committed_in_4_megabytes(name):
    model = parse(SMALL[name])[1]
    tensors = network(model).state_dict().values()
    head = 120 * len(tensors)  # of a safetensors file
    assert sum(2 * tensor.numel() for tensor in tensors) + head < 4_000_000
    assert model.scheduler_class == parse(FULL[name])[1].scheduler_class
    assert model.model_class == parse(FULL[name])[1].model_class
    if name == "faces-rgb":
        assert model.model == parse(FULL[name])[1].model


def test_the_pretrained_encoder_is_that_of_the_recipe():
    pretrained = network(parse(SMALL["faces-lab"].with_name("faces-lab-encoder.yaml"))[1])
    wanted = network(parse(SMALL["faces-lab"])[1]).encoder.state_dict()
    shapes = [
        {name: tensor.shape for name, tensor in state.items()}
        for state in (pretrained.encoder.state_dict(), wanted)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    "name, left_out",
    [
        ("faces-lab", set()),
        ("driving-regression", {"steps"}),
        ("faces-lab-encoder", {"evaluate", "steps", "colorize"}),
    ],
)
def test_a_recipe_has_the_stages_that_it_has_a_use_for(name, left_out):
    every = ["ingest", "split", "train", "evaluate", "steps", "colorize"]
    made = recipe.Recipe(ROOT / "configs" / "small" / f"{name}.yaml", [], ROOT)
    assert [stage.name for stage in made.stages()] == [
        name for name in every if name not in left_out
    ]


# Stages


class Made:
    """A stage that writes a file, and counts."""

    def __init__(self, **options):
        self.inputs, self.count, self.fails = {"a": "1", "b": "1"}, 0, False
        self.stage = stages.Stage(
            "train", lambda: dict(self.inputs), self.work, "product", **options
        )

    def work(self, folder):
        self.count += 1
        with open(folder / "log", "a") as log:
            log.write(f"{self.count}\n")
        if self.fails:
            raise click.ClickException("it failed")
        (folder / "product").write_text(str(self.inputs))


def test_a_stage_is_done_once_for_the_same_inputs(tmp_path):
    made = Made()
    assert stages.run_stage(made.stage, tmp_path / "train")
    assert not stages.run_stage(made.stage, tmp_path / "train")
    made.inputs["b"] = "2"
    assert stages.run_stage(made.stage, tmp_path / "train")
    assert "'1'" in (tmp_path / "old" / "train-1" / "product").read_text()
    assert stages.run_stage(made.stage, tmp_path / "train", again=True)
    assert made.count == 3 and (tmp_path / "old" / "train-2").is_dir()
    (tmp_path / "train" / "product").unlink()
    assert stages.run_stage(made.stage, tmp_path / "train")


def test_a_stage_that_failed_is_done_again(tmp_path):
    made = Made()
    made.fails = True
    with pytest.raises(click.ClickException):
        stages.run_stage(made.stage, tmp_path / "train")
    made.fails = False
    assert stages.run_stage(made.stage, tmp_path / "train")
    assert (tmp_path / "train" / "log").read_text() == "2\n"
    assert not stages.run_stage(made.stage, tmp_path / "train")


def test_a_stage_that_resumes_finds_its_folder_as_it_was(tmp_path):
    made = Made(resumes=True, mild=("b",))
    made.fails = True
    with pytest.raises(click.ClickException):
        stages.run_stage(made.stage, tmp_path / "train")
    made.fails = False
    stages.run_stage(made.stage, tmp_path / "train")
    made.inputs["b"] = "2"
    stages.run_stage(made.stage, tmp_path / "train")
    assert (tmp_path / "train" / "log").read_text() == "1\n2\n3\n"
    made.inputs["a"] = "2"
    stages.run_stage(made.stage, tmp_path / "train")
    assert (tmp_path / "train" / "log").read_text() == "4\n"


def test_a_folder_of_someone_else_is_not_lost(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "mine").write_text("kept")
    stages.run_stage(Made().stage, tmp_path / "train")
    assert (tmp_path / "old" / "train-1" / "mine").read_text() == "kept"


def test_a_program_is_told_to_stop_and_waited_for(tmp_path):
    ready = tmp_path / "ready"
    patient = (
        "import pathlib, signal, time; signal.signal(15, lambda *_: exit(3)); "
        f"pathlib.Path({str(ready)!r}).touch(); time.sleep(100)"
    )

    def stop_when_ready():
        while not ready.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_when_ready, daemon=True).start()
    with pytest.raises(click.ClickException, match="ended with 3"):
        stages.call("-c", patient)


# A whole recipe


def make_pictures(folder, count=14):
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = (smooth_picture(40, 48, seed=number).movedim(0, -1) * 255).byte().numpy()
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    Image.fromarray(pixels).save(folder / "again.png")
    Image.new("RGB", (40, 40), (90, 90, 90)).save(folder / "grey.png")
    (folder / "broken.png").write_bytes(b"no picture")


def in_process(*command):
    """`recipe.call` without the seconds that a Python takes to start."""
    first, *rest = map(str, command)
    AcceleratorState._reset_state(True)
    if first.endswith("train_colorize.py"):
        return train_colorize.main(rest)
    commands = {"benchmark.py": benchmark.main, "evaluate.py": evaluate.main, "-m": cli.main}
    rest = rest[1:] if first == "-m" else rest
    try:
        commands[Path(first).name].main(rest, standalone_mode=False)
    except SystemExit as end:
        assert not end.code


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The arguments of a recipe that takes seconds."""
    make_pictures(tmp_path / "pictures" / "flowers")
    (tmp_path / "photographs").mkdir()
    picture = smooth_picture(24, 30, seed=99)[:1].expand(3, -1, -1)
    pixels = (picture.movedim(0, -1) * 255).byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "photographs" / "old.jpg")
    monkeypatch.setattr(recipe, "call", in_process)
    monkeypatch.setattr(recipe, "STEPS", (2,))
    monkeypatch.setattr(systems, "seconds_of", lambda step, least: 0.1)
    monkeypatch.setattr(
        systems,
        "measure_apart",
        lambda name, model, sides, least: systems.measure(
            systems.systems(model, 2)[name], sides, least
        ),
    )
    fields = {
        "datasets": tmp_path / "pictures" / "flowers",
        "output_dir": tmp_path / "run",
        "resolution": 16,
        "max_train_steps": 4,
        "batch_size": 4,
        "checkpointing_steps": 2,
        "grid_epochs": 100,
        "mixed_precision": "no",
        "scheduler.num_train_timesteps": 4,
        "pipeline.default_num_inference_steps": 2,
        "pipeline.default_processing_resolution": 16,
    }
    flags = [part for name, value in fields.items() for part in (f"--{name}", str(value))]
    flags += ["--model.block_out_channels", "8", "8", "8", "16"]
    options = ["--photographs", str(tmp_path / "photographs"), "--size", "32", "--samples", "2"]
    splits = ["--splits", "train=8,validation=2,test=3"]
    return [str(SMALL["flowers-ddpm"]), *flags, *options, *splits]


def run(arguments, capsys):
    """Names of the stages that did something."""
    capsys.readouterr()
    command.main(arguments, standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    return [line.split()[0] for line in lines if " ..." in line and not line.startswith(" ")]


def check_mean_color(folder, summary):
    """The baseline's colour is the training pictures' and its error the test pictures' spread."""
    splits = datasets.load_dataset(str(folder))
    train, test = (
        [rgb2lab(np.asarray(picture))[..., 1:] for picture in splits[name]["image"]]
        for name in ("train", "test")
    )
    mean = np.mean([chroma.mean((0, 1)) for chroma in train], axis=0)
    np.testing.assert_allclose(summary["constant_chroma"], mean, atol=0.05)
    error = np.mean([np.square(chroma - mean).mean() for chroma in test])
    assert summary["constant"]["ab_mse"] == pytest.approx(error, rel=0.1)  # gamut and rounding


def check_documents(folder, tmp_path, monkeypatch):
    """The page, the pictures, the model in the package and the table that come of a run."""
    done = folder.rename(folder.with_name("flowers-ddpm"))
    (tmp_path / "README.md").write_text(
        "before\n<!-- recipes -->\nold\n<!-- end of recipes -->\nafter\n"
    )
    for name, value in {"DOCS": tmp_path / "docs", "MODELS": tmp_path / "models"}.items():
        monkeypatch.setattr(pages, name, value)
    monkeypatch.setattr(pages, "INDEX", tmp_path / "README.md")
    monkeypatch.setattr(pages, "ORDER", ("flowers-ddpm",))
    monkeypatch.setattr(pages, "SIDE", 32)
    for words in (["ship", str(done)], ["page", str(done)], ["table"]):
        recipe_docs.main(words, standalone_mode=False)
    summary = json.loads((done / "evaluate" / "results.json").read_text())["sets"]["flowers"]
    text = (tmp_path / "docs" / "flowers-ddpm.md").read_text()
    for kind in ("grey", "constant", "sample", "mean"):
        assert f"{summary[kind]['ciede2000']:.2f}" in text
    for file in ("flowers-ddpm.jpg", "flowers-ddpm-curve.png", "flowers-ddpm-steps.jpg"):
        assert (tmp_path / "docs" / file).stat().st_size > 1000 and file in text
    table = (tmp_path / "README.md").read_text()
    assert table.startswith("before\n") and table.endswith("\nafter\n") and "old" not in table
    assert f"{summary['sample']['ciede2000']:.1f}" in table
    pipe = ColorizationPipeline.from_pretrained(tmp_path / "models" / "flowers-ddpm")
    assert type(pipe.scheduler).__name__ == "DDPMScheduler"
    done.rename(folder)


@pytest.mark.slow
def test_a_whole_recipe_and_what_is_done_again(tiny, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    every = ["ingest", "split", "train", "evaluate", "steps", "colorize"]
    assert run(tiny, capsys) == every
    report = json.loads((folder / "ingest" / "report.json").read_text())["flowers"]
    assert report["pictures"] == 15
    assert [len(report["left_out"][kind]) for kind in ("corrupt", "grey", "toned")] == [1, 1, 0]
    report = json.loads((folder / "split" / "report.json").read_text())["flowers"]
    assert report["pictures"] == {"train": 8, "validation": 2, "test": 3}
    assert len(report["duplicates"]) == 1
    results = json.loads((folder / "evaluate" / "results.json").read_text())
    assert results["settings"]["split"] == "test" and results["settings"]["samples"] == 2
    summary = results["sets"]["flowers"]
    assert summary["pictures"] == 3
    check_mean_color(folder / "split" / "flowers", summary)
    assert set(json.loads((folder / "evaluate" / "baselines.json").read_text())) == {
        "grey",
        "mean colour",
    }
    assert sorted(path.name for path in (folder / "steps").glob("*/results.json"))
    shown = sorted(path.name for path in (folder / "colorize" / "photographs").iterdir())
    assert {"old.jpg", "old-compare.jpg"} <= set(shown)
    assert any(name.endswith(".gif") for name in shown)

    check_documents(folder, tmp_path, monkeypatch)

    assert run(tiny, capsys) == []
    assert run([*tiny, "--pipeline.default_num_inference_steps", "3"], capsys) == every[2:]
    assert (folder / "train" / "checkpoint-4").is_dir()
    assert "3" in (folder / "train" / "model" / "model_index.json").read_text()
    assert not (folder / "old" / "train-1").exists()
    assert run([*tiny, "--until", "train", "--seed", "1"], capsys) == ["train"]
    assert (folder / "old" / "train-1" / "model").is_dir()
    (tmp_path / "pictures" / "flowers" / "00.png").unlink()
    fewer = [*tiny, "--seed", "1", "--until", "split", "--splits", "train=8,validation=2,test=2"]
    assert run(fewer, capsys) == ["ingest", "split"]


def test_the_test_pictures_of_a_source_stay_what_they_are(tmp_path):
    """Grey ones and doubles go from `train` alone; a double across splits counts as `train`'s."""
    for part, numbers in {"train": range(4), "test": range(3, 6)}.items():
        folder = tmp_path / "source" / part
        folder.mkdir(parents=True)
        for number in numbers:
            pixels = (smooth_picture(40, 48, seed=number).movedim(0, -1) * 255).byte().numpy()
            Image.fromarray(pixels).save(folder / f"{number}.png")
        Image.new("RGB", (40, 40), (90, 90, 90)).save(folder / "grey.png")
    report = recipe.ingest_one(str(tmp_path / "source"), "image", 32, tmp_path / "kept")
    assert [len(names) for names in report["left_out"].values()] == [0, 1, 0]
    pictures = datasets.Dataset.from_parquet(str(tmp_path / "kept" / "00000.parquet"))
    splits, doubles = recipe.choose_splits(pictures, "")
    assert {name: len(indices) for name, indices in splits.items()} == {"train": 3, "test": 4}
    assert pictures["split"][doubles[0]] == "train"


# Speed


@pytest.mark.parametrize("every_step, runs", [(False, 1), (True, 3)])
def test_the_encoder_runs_once_a_picture_or_at_every_step(every_step, runs, tmp_path):
    scheduler = OffsetCosineScheduler(prediction_type="v_prediction")
    ColorizationPipeline(tiny_unet("lab"), scheduler).save_pretrained(tmp_path / "model")
    picture = (smooth_picture(16, 16)[0] * 255).byte().numpy()
    pipes = [recipe_speed.load(str(tmp_path / "model"), each) for each in (False, every_step)]
    plain, ours = (
        pipe(picture, 3, processing_resolution=16, generator=torch.Generator().manual_seed(0))
        for pipe in pipes
    )
    assert ours.images[0].tobytes() == plain.images[0].tobytes()
    encoder = next(one for name, one in pipes[1].unet.named_modules() if name.endswith("encoder"))
    count = []
    encoder.register_forward_hook(lambda *_: count.append(1))
    recipe_speed.whole(3)(pipes[1], 16)()
    assert len(count) == runs


# Baselines


def test_the_best_guess_from_mean_and_variance_has_its_closed_form():
    """Noise error a^2 v / (a^2 v + s^2), from Wiener's filter on Gaussian colours."""
    schedule = diffusers.DDPMScheduler(num_train_timesteps=1000)
    generator = torch.Generator().manual_seed(0)
    mean, variance = torch.tensor([0.2, -0.1]), torch.tensor([0.04, 0.09])
    shape = (64, 2, 32, 32)
    view = (1, 2, 1, 1)
    color = mean.view(view) + variance.sqrt().view(view) * torch.randn(shape, generator=generator)
    guess = baselines.Guess(schedule, mean, variance)
    for step in (10, 300, 900):
        batch = {
            "condition": torch.zeros(64, 1, 32, 32),
            "color": color,
            "noise": torch.randn(shape, generator=generator),
            "timesteps": torch.full((64,), step),
        }
        loss = baselines.denoising_loss(guess, schedule, batch).mean()
        signal = schedule.alphas_cumprod[step]
        expected = (signal * variance / (signal * variance + 1 - signal)).mean()
        assert loss == pytest.approx(expected.item(), rel=0.02)


def test_a_one_pass_guess_is_the_mean_colour():
    guess = baselines.Guess(None, torch.tensor([0.5, -0.25]), torch.ones(2))
    batch = {"condition": torch.zeros(1, 1, 4, 4), "color": torch.zeros(1, 2, 4, 4)}
    loss = baselines.regression_loss(guess, batch)
    assert loss.item() == pytest.approx((0.5**2 + 0.25**2) / 2)


def test_moments_of_what_colour_adds_to_grey():
    red, blue = (torch.tensor(c).byte()[:, None, None].expand(3, 8, 8) for c in COLORS)
    lab = metrics.to_lab(np.array([COLORS], np.uint8))[0]
    chroma = lab[:, 1:] / 110
    pictures = DataConfig(resolution=8)
    layout = BatchFormat(2, ab_scale=110.0)
    mean, square = baselines.color_moments([red, blue], layout, pictures)
    np.testing.assert_allclose(mean, chroma.mean(0), atol=1e-5)
    np.testing.assert_allclose(square, np.square(chroma).mean(0), atol=1e-5)
    mean, _ = baselines.color_moments([red, blue], BatchFormat(3), pictures)
    # What red and blue have more than the grey of their luminance, in [-1, 1].
    linear = [((light + 16) / 116) ** 3 for light in lab[:, 0]]  # both are brighter than L* 8
    level = 1.055 * np.power(linear, 1 / 2.4) - 0.055
    expected = (2 * np.array(COLORS) / 255 - 2 * level[:, None]).mean(0)
    np.testing.assert_allclose(mean, expected, atol=1e-4)


COLORS = ([200, 40, 60], [30, 80, 190])


# What ships

MODELS = ROOT / "pipeline_colorize" / "models"
SHIPPED = [name for name in NAMES if (MODELS / name).is_dir()]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_model_that_ships_is_small_has_a_card_and_keeps_the_light(name):
    weights = list((MODELS / name).rglob("*.safetensors"))
    assert sum(file.stat().st_size for file in weights) <= 4_000_000
    assert not checks.check_card(MODELS / name)
    pipe = ColorizationPipeline.from_pretrained(name)
    parameters = sum(parameter.numel() for parameter in pipe.unet.parameters())
    wanted = network(parse(SMALL[name])[1])
    assert parameters == sum(parameter.numel() for parameter in wanted.parameters())
    assert (pipe.scheduler is None) == (name == "driving-regression")
    assert pipe.config.default_processing_resolution == 64
    taken = Image.open(ROOT / "space" / "examples" / "mark-twain-1907.jpg").convert("L")
    taken.thumbnail((96, 96))
    steps = None if pipe.scheduler is None else 4
    (colored,) = pipe(taken, steps, generator=torch.Generator().manual_seed(0)).images
    lab, light = rgb2lab(np.asarray(colored)), rgb2lab(np.asarray(taken.convert("RGB")))[..., 0]
    assert np.abs(lab[..., 0] - light).max() <= 100 / 255
    assert np.abs(lab[..., 1:]).mean() > 0.5


@pytest.mark.parametrize("name", SHIPPED)
def test_the_page_and_the_table_have_the_figures_of_the_card(name):
    facts = json.loads((ROOT / "docs" / "recipes" / f"{name}.json").read_text())
    report = json.loads((MODELS / name / "evaluation.json").read_text())
    assert report["sets"][facts["set"]] == facts["test"]
    page = (ROOT / "docs" / "recipes" / f"{name}.md").read_text()
    assert pages.figures_table(facts) in page
    index = (ROOT / "docs" / "recipes" / "README.md").read_text()
    assert pages.index_table([facts]).splitlines()[-1] in index


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_beats_what_it_should(name):
    facts = json.loads((ROOT / "docs" / "recipes" / f"{name}.json").read_text())
    losses, test = facts["validation"], facts["test"]
    assert losses["this model"] < min(losses["grey"], losses["mean colour"])
    if facts["diffusion"]:
        assert test["colorfulness"]["share"] >= 0.6
    else:
        assert test["sample"]["ab_mse"] <= 0.85 * test["constant"]["ab_mse"]
