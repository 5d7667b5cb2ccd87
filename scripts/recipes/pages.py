"""The pages of the recipes, from what scripts/recipe.py leaves behind and docs/cards/NAME.yaml."""

import json
import shutil
import statistics
from pathlib import Path

import torch
import yaml
from PIL import Image, ImageDraw

from benchmarks.recipes import PUBLISHED, to_markdown
from pipeline_colorize import ColorizationPipeline, __version__, photo
from pipeline_colorize.photo.display import side_by_side
from pipeline_colorize.release_code import write_package_code
from releasing.card import write_card

ROOT = Path(__file__).resolve().parents[2]
DOCS, CARDS = ROOT / "docs" / "recipes", ROOT / "docs" / "cards"
MODELS, INDEX = ROOT / "pipeline_colorize" / "models", DOCS / "README.md"
LARGEST = 4_000_000  # bytes of the weights of a model that ships
ORDER = ("faces-rgb", "faces-lab", "flowers-ddpm", "driving-regression")
BEGIN, END = "<!-- recipes -->\n", "<!-- end of recipes -->"
SAMPLES = 3
SHOWN_STEPS = (5, 10, 20, 50)
SIDE = 256

PAGE = """\
# {name}

{summary}

{story}

## Figures

{test}

{table}

{cost}

{conditions}

## Curve

![Loss by step]({name}-curve.png)

{validation}

{beside}{steps}{speed}## Pictures

![{alt}]({name}.jpg)

{credits} The colours are generated.

## Do it again

```bash
python scripts/recipe.py configs/small/{name}.yaml --datasets FOLDER
colorize photograph.jpg --model {name}
```

The first command trains, evaluates and colorizes, and continues where it was stopped. The second
uses the model that ships. `configs/{name}.yaml` has the settings as published.
"""


# --- facts --------------------------------------------------------------------------------------


def read_json(file: Path) -> dict:
    """Read a JSON file."""
    return json.loads(file.read_text("utf-8"))


def read_lines(run: Path) -> dict[int, dict]:
    """Read the lines of metrics.jsonl by step; of two with the same step, the second counts."""
    lines = (run / "train" / "metrics.jsonl").read_text("utf-8").splitlines()
    return {line["step"]: line for line in map(json.loads, lines)}


def released_validation(curve: dict[int, float], config: dict) -> float:
    """Find the validation loss of the released weights: the best, where a run keeps the best."""
    losses = list(curve.values())
    return min(losses) if config["early_stopping_patience"] else losses[-1]


def lab_errors(lines: dict[int, dict]) -> list[dict]:
    """List the squared error of a*, b* in Lab units after each epoch, of a one-pass model."""
    return [
        {name: line[name] for name in ("epoch", "epoch_ab_mse", "validation_ab_mse")}
        for _, line in sorted(lines.items())
        if "epoch_ab_mse" in line and "validation_ab_mse" in line
    ]


def validation_by_step(run: Path) -> dict[int, float]:
    """List the validation loss of the averaged weights at each step where it was taken."""
    return {
        step: line["validation_loss"]
        for step, line in sorted(read_lines(run).items())
        if "validation_loss" in line
    }


def gather(run: Path, beside: dict[str, Path]) -> dict:
    """Gather all that the page and the table say, JSON-ready.

    Args:
        run: what scripts/recipe.py left behind.
        beside: other runs of the same recipe, by what is different about them.
    """
    config = yaml.safe_load((run / "train" / "config.yaml").read_text("utf-8"))
    lines, results = read_lines(run), read_json(run / "evaluate" / "results.json")
    speed = read_json(run / "evaluate" / "speed.json")
    ours = next(iter(speed["systems"].values()))
    splits = read_json(run / "split" / "report.json")
    ((name, summary),) = results["sets"].items()
    steps = {
        int(file.parent.name): next(iter(read_json(file)["sets"].values()))
        for file in (run / "steps").glob("*/results.json")
    }
    return {
        "name": run.name,
        "set": name,
        "pictures": splits[name]["pictures"],
        "resolution": config["resolution"],
        "diffusion": config["scheduler_class"] != "none",
        "default_steps": results["defaults"]["default_num_inference_steps"],
        "parameters": ours["parameters"],
        "seconds_a_picture": ours["128"]["seconds"],
        "dtype": speed["dtype"],
        "threads": results["model"]["threads"],
        "steps": max(lines),
        "pictures_seen": max(lines) * config["batch_size"] * config["gradient_accumulation_steps"],
        "training_minutes": read_json(run / "train" / "stage.json")["seconds"] / 60,
        "samples": results["settings"]["samples"],
        "validation": {"this model": released_validation(validation_by_step(run), config)}
        | read_json(run / "evaluate" / "baselines.json"),
        "test": summary,
        "lab_errors": lab_errors(lines),
        "curves": {name: validation_by_step(path) for name, path in [("", run), *beside.items()]},
        "by_steps": {
            number: {
                "ciede2000": steps[number]["sample"]["ciede2000"],
                "colorfulness": steps[number]["colorfulness"]["share"],
                "histogram": steps[number]["histogram_distance"]["sample"],
            }
            for number in sorted(steps)
        },
    }


# --- text ---------------------------------------------------------------------------------------


def markdown(rows: list[list[str]]) -> str:
    """Write rows as a Markdown table, the first as its head."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def figures_table(facts: dict) -> str:
    """Write a table of the model beside grey and the mean colour, on the test pictures."""
    test, color = facts["test"], facts["test"]["colorfulness"]
    kinds = {"left grey": ("grey", 0.0), "mean colour of the training pictures": ("constant", None)}
    if facts["diffusion"]:
        kinds["**one sample**"] = ("sample", color["share"])
        kinds[f"mean of {facts['samples']} samples"] = ("mean", color["mean"] / color["truth"])
    else:
        kinds["**this model**"] = ("sample", color["share"])
    rows = [["", "PSNR", "SSIM", "CIEDE2000", "a\\*b\\* RMSE", "a\\*b\\* MSE", "colourfulness"]]
    for title, (kind, share) in kinds.items():
        one = test[kind]
        cells = [f"{one['psnr']:.2f}", f"{one['ssim']:.3f}", f"{one['ciede2000']:.2f}"]
        cells += [f"{one['ab_rmse']:.2f}", f"{one['ab_mse']:.1f}"]
        rows.append([title, *cells, "" if share is None else f"{share:.0%}"])
    return markdown(rows)


def cost_table(facts: dict) -> str:
    """Write a table of sizes and times."""
    heads = ["parameters", "training pictures", "seen", "training time", "seconds a picture"]
    cells = [
        f"{facts['parameters']:,}",
        f"{facts['pictures']['train']:,}",
        f"{facts['pictures_seen']:,}",
        f"{facts['training_minutes']:.0f} min",
        f"{facts['seconds_a_picture']:.3f}",
    ]
    return markdown([heads, cells])


def conditions(facts: dict) -> str:
    """Say in which units and under which conditions was measured."""
    steps = f"in {facts['default_steps']} steps" if facts["diffusion"] else "in one pass"
    return (
        "PSNR is in dB, CIEDE2000 and a\\*b\\* in units of CIE L\\*a\\*b\\* (D65); the squared "
        "error is a mean over both channels; colourfulness (Hasler and Suesstrunk) is a share of "
        "the truth's. *Seconds a picture* is the time from a grey picture of 128x128 to the same "
        f"in colour, {steps}, with {facts['threads']} threads in {facts['dtype']}. *Training time* "
        "includes reading the pictures, validation and grids."
    )


def validation_text(facts: dict) -> str:
    """Write the loss that was minimised beside those of guesses that do not see the picture."""
    losses = facts["validation"]
    rows = [["validation loss", *losses], ["", *[f"{loss:.4f}" for loss in losses.values()]]]
    caption = (
        "*Grey* is the loss of no colour at all, *mean colour* that of the training pictures' mean "
        "colour everywhere."
    )
    if facts["diffusion"]:
        caption = (
            "*Grey* and *mean colour* are the losses of the best denoisers that do not look at the "
            "picture: the first knows only how far colours are from grey, the second their mean "
            "and variance."
        )
    return f"{markdown(rows)}\n\n{caption}"


def beside_text(facts: dict) -> str:
    """Write the validation losses of other runs, and a one-pass model's errors by epoch."""
    parts = []
    if facts["lab_errors"]:
        errors = thinned(facts["lab_errors"], 8)
        rows = [["epoch", *[str(one["epoch"]) for one in errors]]]
        for title, name in (("training", "epoch_ab_mse"), ("validation", "validation_ab_mse")):
            rows.append([title, *[f"{one[name]:.1f}" for one in errors]])
        caption = "The squared error of a\\*b\\* in Lab units by epoch, at the working size:"
        parts.append(f"{caption}\n\n{markdown(rows)}\n\n")
    if len(facts["curves"]) > 1:
        common = set.intersection(*(set(map(int, curve)) for curve in facts["curves"].values()))
        steps = thinned(sorted(common), 8)
        rows = [["validation loss at step", *map(str, steps)]]
        for name, curve in facts["curves"].items():
            losses = {int(step): loss for step, loss in curve.items()}
            rows.append([name or "as above", *[f"{losses[step]:.4f}" for step in steps]])
        parts.append(f"{markdown(rows)}\n\n")
    return "".join(parts)


def thinned(items: list, most: int) -> list:
    """Keep at most so many, evenly spaced, with the last."""
    stride = -(-len(items) // most)
    return items[::-1][::stride][::-1]


def steps_text(facts: dict) -> str:
    """Write how the figures change with the number of steps."""
    if not facts["by_steps"]:
        return ""
    rows = [
        ["steps", "CIEDE2000 of one sample", "colourfulness", "distance of a\\*b\\* histograms"]
    ]
    cell = "{steps}|{ciede2000:.2f}|{colorfulness:.0%}|{histogram:.3f}"
    rows += [cell.format(steps=steps, **one).split("|") for steps, one in facts["by_steps"].items()]
    caption = (
        "Measured on 16 validation pictures with two samples each. "
        f"The default is {facts['default_steps']} steps."
    )
    picture = f"![By number of steps]({facts['name']}-steps.jpg)"
    shown = "The picture shows one photograph, coloured from the same noise in that many steps."
    return f"## Steps\n\n{markdown(rows)}\n\n{caption}\n\n{picture}\n\n{shown}\n\n"


def speed_text(name: str) -> str:
    """Write the recipe's time beside that of the published settings (`benchmark.py recipes`)."""
    file = DOCS / "speed.json"
    if name not in PUBLISHED or not file.is_file():
        return ""
    report, (published, _) = read_json(file), PUBLISHED[name]
    systems = {
        what: one
        for what, one in report["systems"].items()
        if what.startswith((f"{name},", published))
    }
    caption = (
        "All measured in one run of `scripts/benchmark.py recipes` with "
        f"{report['threads']} threads in {report['dtype']}:"
    )
    return f"## Speed\n\n{caption}\n\n{to_markdown(systems)}\n\n"


def page(facts: dict, notes: dict) -> str:
    """Write the text of a recipe's page."""
    count = facts["test"]["pictures"]
    return PAGE.format(
        name=facts["name"],
        summary=notes["summary"].strip(),
        story=notes["story"].strip(),
        test=(
            f"Measured on {count} test pictures of *{facts['set']}* at a working size of "
            f"{facts['resolution']} pixels."
        ),
        table=figures_table(facts),
        cost=cost_table(facts),
        conditions=conditions(facts),
        validation=validation_text(facts),
        beside=beside_text(facts),
        steps=steps_text(facts),
        speed=speed_text(facts["name"]),
        alt="As taken, and in colour",
        credits="; ".join(notes["previews"].values()) + ".",
    )


def index_table(everything: list[dict]) -> str:
    """Write the table of all recipes, a row each."""
    heads = [
        "recipe",
        "CIEDE2000 (grey, mean colour)",
        "PSNR",
        "SSIM",
        "a\\*b\\* RMSE (mean colour)",
    ]
    heads += ["colourfulness", "s a picture", "parameters", "pictures, time"]
    rows = [heads]
    for facts in everything:
        test, name = facts["test"], facts["name"]
        sample, grey, flat = test["sample"], test["grey"], test["constant"]
        rows.append(
            [
                f"[{name}]({name}.md)",
                f"{sample['ciede2000']:.1f} ({grey['ciede2000']:.1f}, {flat['ciede2000']:.1f})",
                f"{sample['psnr']:.1f}",
                f"{sample['ssim']:.3f}",
                f"{sample['ab_rmse']:.1f} ({flat['ab_rmse']:.1f})",
                f"{test['colorfulness']['share']:.0%}",
                f"{facts['seconds_a_picture']:.2f}",
                f"{facts['parameters'] / 1e6:.2f} M",
                f"{facts['pictures']['train']:,}, {facts['training_minutes']:.0f} min",
            ]
        )
    return markdown(rows) + "\n"


# --- pictures -----------------------------------------------------------------------------------


def smooth(values: list[float], window: int) -> list[float]:
    """Take the median of the last `window` values at each place."""
    return [statistics.median(values[max(0, i - window + 1) : i + 1]) for i in range(len(values))]


def draw_curve(run: Path, facts: dict, file: Path) -> None:
    """Draw training and validation loss by step, and the losses of the guesses."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    lines = read_lines(run)
    figure, axis = pyplot.subplots(figsize=(8, 4), layout="constrained")
    taken = sorted(step for step in lines if "loss" in lines[step])[::4]
    losses = smooth([lines[step]["loss"] for step in taken], 12)
    axis.plot(taken, losses, color="tab:gray", linewidth=0.8, label="training, median of 48 steps")
    for name, curve in facts["curves"].items():
        style = "o-" if not name else "s--"
        label = f"validation, {name}" if name else "validation"
        axis.plot(list(curve), list(curve.values()), style, markersize=3, label=label)
    for (name, loss), style in zip(list(facts["validation"].items())[1:], (":", "--"), strict=True):
        axis.axhline(loss, color="tab:red", linestyle=style, linewidth=1, label=name)
    axis.set(xlabel="step", ylabel="loss", yscale="log")
    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))  # all nine would overlap
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(ticker.NullFormatter())
    axis.grid(alpha=0.3, which="both")
    axis.legend()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def take(path: Path) -> Image.Image:
    """Open a photograph in grey, small enough for a page."""
    image = photo.open_picture(path).convert("L").convert("RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return image


def stack(rows: list[Image.Image]) -> Image.Image:
    """Put pictures below one another."""
    gap = 4
    size = max(row.width for row in rows), sum(row.height + gap for row in rows) - gap
    sheet, top = Image.new("RGB", size, "white"), 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height + gap
    return sheet


def write_jpeg(file: Path, image: Image.Image, name: str) -> None:
    """Write a picture with the mark that the model `name` generated its colours."""
    mark = photo.Mark(__version__, {"model": name, "seed": 0})
    photo.write_picture(file, image, mark)


def draw_photographs(pipe, facts: dict, paths: list[Path], file: Path) -> None:
    """Draw a row a photograph: as taken, and in colour; with noise, several times."""
    rows = []
    for path in paths:
        taken = take(path)
        samples = SAMPLES if facts["diffusion"] else 1
        generator = torch.Generator().manual_seed(0)
        colored = pipe(taken, num_samples=samples, generator=generator).images
        rows.append(side_by_side([taken, *colored], SIDE))
    write_jpeg(file, stack(rows), facts["name"])


def draw_steps(pipe, facts: dict, path: Path, file: Path) -> None:
    """Draw one photograph by number of steps, up to all of them, from the same noise."""
    taken, most = take(path), max(facts["by_steps"])
    numbers = sorted({steps for steps in SHOWN_STEPS if steps < most} | {most})
    pictures = []
    for steps in numbers:
        generator = torch.Generator().manual_seed(0)
        (colored,) = pipe(taken, num_inference_steps=steps, generator=generator).images
        ImageDraw.Draw(colored).text((4, 2), str(steps), "white", stroke_width=1, stroke_fill=0)
        pictures.append(colored)
    write_jpeg(file, side_by_side(pictures, SIDE), facts["name"])


# --- the package --------------------------------------------------------------------------------


def ship(run: Path, folder: Path) -> None:
    """Put a run's model and its card into the package, with weights in fp16.

    Its code is that of the package.

    Raises:
        ValueError: if the weights take too many bytes, or the card's notes are wrong.
    """
    source = run / "train" / "model"
    if folder.exists():
        shutil.rmtree(folder)
    for name in ("model_index.json", *(f"{part}/*" for part in ("unet", "scheduler"))):
        for file in source.glob(name):
            if file.suffix in (".json", ".safetensors"):
                target = folder / file.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
    size = sum(file.stat().st_size for file in folder.glob("unet/*.safetensors"))
    if size > LARGEST:
        raise ValueError(f"The weights take {size:,} bytes; {LARGEST:,} are allowed.")
    write_package_code(folder)
    write_card(folder, CARDS / f"{run.name}.yaml", run / "evaluate")


def write_page(run: Path, others: dict[str, Path]) -> Path:
    """Write a recipe's page with its pictures and figures; returns its path.

    Args:
        run: what scripts/recipe.py left behind.
        others: other runs to compare with, by what is different about them.
    """
    DOCS.mkdir(parents=True, exist_ok=True)
    facts = gather(run, others)
    notes = yaml.safe_load((CARDS / f"{run.name}.yaml").read_text("utf-8"))
    pipe = ColorizationPipeline.from_pretrained(run / "train" / "model")
    pipe.set_progress_bar_config(disable=True)
    paths = [ROOT / path for path in notes["previews"]]
    draw_curve(run, facts, DOCS / f"{run.name}-curve.png")
    draw_photographs(pipe, facts, paths, DOCS / f"{run.name}.jpg")
    if facts["by_steps"]:
        draw_steps(pipe, facts, paths[0], DOCS / f"{run.name}-steps.jpg")
    (DOCS / f"{run.name}.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    (DOCS / f"{run.name}.md").write_text(page(facts, notes), "utf-8")
    return DOCS / f"{run.name}.md"


def write_table() -> None:
    """Write the table of all recipes into docs/recipes/README.md.

    Raises:
        ValueError: if that page has no place for it.
    """
    everything = [read_json(DOCS / f"{name}.json") for name in ORDER]
    before, _, rest = INDEX.read_text("utf-8").partition(BEGIN)
    if not rest:
        raise ValueError(f"{INDEX} has no line {BEGIN.strip()}.")
    after = rest.partition(END)[2]
    INDEX.write_text(f"{before}{BEGIN}\n{index_table(everything)}\n{END}{after}", "utf-8")
