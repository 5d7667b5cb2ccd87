"""The report of an evaluation: tables as Markdown, files, and the figures of a model card."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from huggingface_hub import EvalResult, ModelCard
from PIL import Image, ImageDraw, ImageOps

from . import metrics

CONSTANT_PICTURES = 1000  # that the mean colour is taken of, evenly spaced
PROTOCOL = """\
- Grey is CIE L* (D65) of the sRGB picture; results keep it, and are judged as 8-bit sRGB.
- Pictures are {crop}; {order}.
- *one sample*: {one}; *mean of {samples}*: the picture
  with the mean chroma of its samples; *best of {samples}*: the sample nearest to the truth.
- CIEDE2000, squared error of a\\*b\\*, SSIM, PSNR: mean over a picture's pixels, then over
  pictures. In brackets: as a ratio to the picture left grey.
- Colourfulness: Hasler and Suesstrunk's M3, mean over pictures; *DDColor's* is its variant with
  absolute opponent channels. *difference*: of the means, signed / mean |difference| of a picture.
- Histogram: total variation between joint a\\*b\\* histograms (24x24 bins over -100..100) of all
  pictures of a set, of one sample each.
- Diversity: mean distance of two samples in a\\*b\\*. Calibration: rank correlation of the samples'
  spread with the error of their mean, within pictures / between pictures.
- Blotches: deviation of a\\*b\\* where L* is even. Edge focus: gradient of a\\*b\\* at the edges
  of L* over its mean; below the truth's, colours bleed."""
# What reports say since they have figures of odd pixels, and what older ones say.
ONE_SAMPLE = "asked for by itself, the {samples} samples together"
ONE_OF_MANY = "mean over {samples} colourings of each picture"
HINT_PROTOCOL = """\
- Colour hints: true colours of cells of the chroma grid, at random places, one sample each from the
  noise that there is without them. *missed by*: CIEDE2000 between a hint and its cell, in brackets
  the share under 5; *on the grid* is what the network says, *in the picture* the mean of the cell's
  pixels. *Change*: distance in a\\*b\\* between the pictures with one hint and with none, by
  distance from the hint in shares of the short side."""
ODD_PROTOCOL = """\
- Odd: share of the pixels whose a\\*b\\* is off by more than 20, with more chroma than the truth
  has; pale: likewise with less."""
CONSTANT_PROTOCOL = """\
- One colour everywhere: the mean a\\*b\\* of {pictures} pictures of the split `{split}`."""

# Title, then columns: a head and the format of its cells, of a set's summary.
DIFFERENCE = "{%s[difference_of_means]:+.1f} / {%s[mean_of_differences]:.1f}"
CIEDE2000 = "{%s[ciede2000]:.2f} ({%s[ciede2000_ratio]:.2f})"
TABLES = {
    "Overview (CIEDE2000, and its ratio to grey)": {
        "pictures": "{pictures}",
        "grey": "{grey[ciede2000]:.2f}",
        "one sample": CIEDE2000.replace("%s", "sample"),
        "mean of {k}": CIEDE2000.replace("%s", "mean"),
        "best of {k}": CIEDE2000.replace("%s", "best"),
        "colourfulness": "{colorfulness[share]:.0%}",
        "PSNR one / mean / grey": "{sample[psnr]:.1f} / {mean[psnr]:.1f} / {grey[psnr]:.1f}",
        "histogram": "{histogram_distance[sample]:.3f}",
    },
    "Colourfulness": {
        "truth": "{colorfulness[truth]:.1f}",
        "one sample": "{colorfulness[sample]:.1f}",
        "difference": DIFFERENCE.replace("%s", "colorfulness"),
        "mean of {k}": "{colorfulness[mean]:.1f}",
        "DDColor's: truth": "{colorfulness_absolute[truth]:.1f}",
        "DDColor's: one sample": "{colorfulness_absolute[sample]:.1f}",
        "DDColor's: difference": DIFFERENCE.replace("%s", "colorfulness_absolute"),
    },
    "Nearness": {
        "PSNR best of {k}": "{best[psnr]:.1f}",
        "SSIM one / mean / grey": "{sample[ssim]:.3f} / {mean[ssim]:.3f} / {grey[ssim]:.3f}",
        "a\\*b\\* RMSE one / mean / grey": (
            "{sample[ab_rmse]:.1f} / {mean[ab_rmse]:.1f} / {grey[ab_rmse]:.1f}"
        ),
        "a\\*b\\* MSE one / mean / grey": (
            "{sample[ab_mse]:.0f} / {mean[ab_mse]:.0f} / {grey[ab_mse]:.0f}"
        ),
    },
    "Samples and faults": {
        "histogram mean of {k} / grey": (
            "{histogram_distance[mean]:.3f} / {histogram_distance[grey]:.3f}"
        ),
        "diversity": "{diversity:.1f}",
        "calibration": ("{calibration[within_pictures]:.2f} / {calibration[between_pictures]:.2f}"),
        "blotches one / mean / truth": (
            "{blotches[sample]:.1f} / {blotches[mean]:.1f} / {blotches[truth]:.1f}"
        ),
        "edge focus one / mean / truth": (
            "{edge_focus[sample]:.2f} / {edge_focus[mean]:.2f} / {edge_focus[truth]:.2f}"
        ),
        "largest dL*": "{luminance_error:.3f}",
    },
}
WITH_CONSTANT = {
    "a*, b*": "{constant_chroma[0]:.1f}, {constant_chroma[1]:.1f}",
    "CIEDE2000": CIEDE2000.replace("%s", "constant"),
    "PSNR": "{constant[psnr]:.1f}",
    "SSIM": "{constant[ssim]:.3f}",
    "a\\*b\\* RMSE": "{constant[ab_rmse]:.1f}",
    "a\\*b\\* MSE": "{constant[ab_mse]:.1f}",
}
WITH_ERRORS = {
    "CIEDE2000 one / mean / best of {k}": (
        "{standard_errors[sample ciede2000]:.2f} / {standard_errors[mean ciede2000]:.2f} / "
        "{standard_errors[best ciede2000]:.2f}"
    ),
    "PSNR one": "{standard_errors[sample psnr]:.2f}",
    "odd one": "{standard_errors[sample odd]:.1%}",
    "colourfulness one": "{standard_errors[sample colorfulness]:.1f}",
}
PAIR = "{against[NAME][difference]:+.FORMAT} ± {against[NAME][standard_error]:.FORMAT}"
WINS = " ({against[NAME][wins]:.0%} better)"
AGAINST = {
    head: (PAIR + wins).replace("NAME", name).replace("FORMAT", digits)
    for head, name, digits, wins in (
        ("CIEDE2000 one", "sample ciede2000", "2f", WINS),
        ("mean of {k}", "mean ciede2000", "2f", WINS),
        ("best of {k}", "best ciede2000", "2f", WINS),
        ("PSNR one", "sample psnr", "2f", WINS),
        ("odd one", "sample odd", "1%", WINS),
        ("colourfulness one", "sample colorfulness", "1f", ""),
    )
}
BY_FIGURE = {  # what the summary must have: the title and the columns of a table
    "odd": (
        "Colours that are far off",
        {
            "odd one / mean": "{odd[sample]:.1%} / {odd[mean]:.1%}",
            "pale one / mean / grey": "{pale[sample]:.1%} / {pale[mean]:.1%} / {pale[grey]:.1%}",
        },
    ),
    "standard_errors": ("Standard errors over the pictures", WITH_ERRORS),
    "against": ("Against the other model: mean difference, picture by picture", AGAINST),
    "constant": ("One colour everywhere (CIEDE2000, and its ratio to grey)", WITH_CONSTANT),
}
WITH_NETWORKS = {  # by what the summary must have
    "fid": {"FID": "{fid:.2f}", "KID x 1000": "{kid_x1000:.2f}"},
    "lpips": {
        "LPIPS one / mean / grey": "{lpips[sample]:.3f} / {lpips[mean]:.3f} / {lpips[grey]:.3f}"
    },
}


def tables(report: dict) -> dict[str, dict[str, str]]:
    """Choose the tables of a report: a title, and the columns with the format of their cells."""
    summaries = list(report["sets"].values())
    columns: dict[str, str] = {}
    for key, more in WITH_NETWORKS.items():
        if all(key in summary for summary in summaries):
            columns |= more
    result = TABLES | ({"Networks": columns} if columns else {})
    for key, (title, more) in BY_FIGURE.items():
        if key in summaries[0]:
            result[title] = more
    if "hints" in summaries[0]:
        result |= hint_tables(summaries[0]["hints"]["counts"])
    return result


def hint_tables(counts: list[int]) -> dict[str, dict[str, str]]:
    """Make the tables for numbers of colour hints, the first of which is 0."""

    def cells(cell: str, first: int) -> str:
        return " / ".join(cell.replace("N", str(n)) for n in range(first, len(counts)))

    numbers = " / ".join(map(str, counts))
    nearness = {
        f"PSNR with {numbers}": cells("{hints[psnr][N]:.2f}", 0),
        f"CIEDE2000 with {numbers}": cells("{hints[ciede2000][N]:.2f}", 0),
    }
    given = " / ".join(map(str, counts[1:]))
    for place, where in (("grid", "on the grid"), ("picture", "in the picture")):
        cell = "{hints[PLACE][mean][N]:.1f} ({hints[PLACE][met][N]:.0%})".replace("PLACE", place)
        nearness[f"{given} missed by, {where}"] = cells(cell, 1)
    ends = [f"to {end:g}" for end in metrics.HINT_DISTANCES] + ["beyond"]
    reach = {end: f"{{hints[reach][{ring}]:.1f}}" for ring, end in enumerate(ends)}
    return {"Colour hints": nearness, "Change by one hint, by distance from it": reach}


def to_markdown(report: dict) -> str:
    """Write the tables of all sets as Markdown, and how their figures were measured."""
    settings, samples = report["settings"], report["settings"]["samples"]
    lines = [f"# {settings['model']} on {', '.join(report['sets'])} ({settings['split']})", ""]
    for title, columns in tables(report).items():
        heads = [head.format(k=samples) for head in columns]
        rows = [
            [name, *(cell.format(**number_ready(summary)) for cell in columns.values())]
            for name, summary in report["sets"].items()
        ]
        lines += [f"**{title}**", "", "| " + " | ".join(["set", *heads]) + " |"]
        lines.append("|---" * (len(heads) + 1) + "|")
        lines += ["| " + " | ".join(row) + " |" for row in rows] + [""]
    size, limit = settings["size"], settings["limit"]
    crop = f"centre squares resized to {size} (Lanczos)" if size else "used as they are"
    order = f"at most {limit} a set, evenly spaced" if limit else "all of the split"
    is_older = any("odd" not in summary for summary in report["sets"].values())
    one = (ONE_OF_MANY if is_older else ONE_SAMPLE).format(samples=samples)
    lines += [PROTOCOL.format(samples=samples, one=one, crop=crop, order=order)]
    if not is_older:
        lines.append(ODD_PROTOCOL)
    if settings.get("mean_color"):
        pictures, split = f"at most {CONSTANT_PICTURES:,}", settings["mean_color"]
        lines.append(CONSTANT_PROTOCOL.format(pictures=pictures, split=split))
    if settings.get("hints"):
        lines.append(HINT_PROTOCOL)
    lines += ["", *report["notes"], *_broken(report), ""]
    if "model" in report:  # not in older reports, which cards are held against
        lines += [model_line(report), ""]
    chosen = {key: value for key, value in settings.items() if value not in (None, [])}
    lines += ["Settings: " + ", ".join(f"{key} {value}" for key, value in chosen.items()) + "."]
    return "\n".join(lines) + "\n"


def _broken(report: dict) -> list[str]:
    """Name the pictures that could not be read, a line a set."""
    return [
        f"Left out of {name}, since they cannot be read: {', '.join(summary['broken'])}."
        for name, summary in report["sets"].items()
        if summary.get("broken")
    ]


def model_line(report: dict) -> str:
    """Say in a line of text what `protocol.describe` found out."""
    model, batch = report["model"], report["settings"]["batch_size"]
    digests = ", ".join(model["sha256"].values()) or "unknown"
    return (
        f"Model: {model['parameters']:,} parameters, SHA-256 of the weights {digests}. "
        f"{model['seconds_per_coloring']:.3f} s a colouring without upsampling, {batch} pictures "
        f"at a time, {model['dtype']} on {model['device']} with {model['threads']} threads."
    )


def contact_sheet(rows: list[list[np.ndarray]], side: int = 160, gap: int = 4) -> Image.Image:
    """Draw pictures in rows under their heads: grey, samples, mean of the samples, truth."""
    columns = max(len(row) for row in rows)
    samples = [f"sample {number + 1}" for number in range(columns - 4)]
    heads = ["grey", "one sample", *samples, "mean", "truth"]
    step, top = side + gap, 16
    size = (columns * step + gap, top + len(rows) * step + gap)
    sheet = Image.new("RGB", size, "white")
    for column, head in enumerate(heads):
        ImageDraw.Draw(sheet).text((gap + column * step, 3), head, "black")
    for number, row in enumerate(rows):
        for column, view in enumerate(row):
            tile = ImageOps.contain(Image.fromarray(view), (side, side), Image.Resampling.LANCZOS)
            sheet.paste(tile, (gap + column * step, top + gap + number * step))
    return sheet


def _replaced(value, is_old: Callable, new):
    """Put `new` in the place of all that is old in a JSON value."""
    if isinstance(value, dict):
        return {key: _replaced(one, is_old, new) for key, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, is_old, new) for one in value]
    return new if is_old(value) else value


def json_ready(value):
    """Turn NaN, which JSON lacks, into null."""
    return _replaced(value, lambda one: isinstance(one, float) and math.isnan(one), None)


def number_ready(value):
    """Turn null back into NaN, where a report was read."""
    return _replaced(value, lambda one: one is None, math.nan)


def write_report(report: dict, results: dict, output: Path) -> None:
    """Write results.json, results.md, pictures.jsonl and a contact sheet of each set.

    Args:
        report: as `protocol.evaluate` returns it.
        results: likewise, by the names of the sets.
        output: a folder.
    """
    output.mkdir(parents=True, exist_ok=True)
    (output / "results.json").write_text(json.dumps(json_ready(report), indent=2) + "\n")
    (output / "results.md").write_text(to_markdown(report))
    with open(output / "pictures.jsonl", "w") as file:
        for name, result in results.items():
            for record in result["records"]:
                file.write(json.dumps(json_ready({"set": name, **record})) + "\n")
    for name, result in results.items():
        contact_sheet(result["views"]).save(output / f"{name}.png")


def update_card(path: Path, report: dict) -> None:
    """Put the main figures into the `model-index` of a model card."""
    card = ModelCard.load(path)
    settings = report["settings"]
    figures = {
        "CIEDE2000, one sample": ("ciede2000", ("sample", "ciede2000")),
        f"CIEDE2000, mean of {settings['samples']} samples": ("ciede2000", ("mean", "ciede2000")),
        "CIEDE2000, left grey": ("ciede2000", ("grey", "ciede2000")),
        "PSNR, one sample": ("psnr", ("sample", "psnr")),
        "SSIM, one sample": ("ssim", ("sample", "ssim")),
        "Colourfulness, share of the truth's": ("colorfulness", ("colorfulness", "share")),
    }
    card.data.model_name = card.data.model_name or settings["model"]
    card.data.eval_results = [
        EvalResult(
            task_type="image-to-image",
            dataset_type=name,
            dataset_name=name,
            dataset_split=settings["split"],
            metric_type=kind,
            metric_name=title,
            metric_value=round(summary[part][key], 4),
        )
        for name, summary in report["sets"].items()
        for title, (kind, (part, key)) in figures.items()
    ]
    card.save(path)
