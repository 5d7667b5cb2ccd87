"""Evaluate a model on colour pictures: measure what a colorization paper would report.

    python scripts/evaluate.py --model default --data PATH [--data PATH ...]

Each picture is made grey (CIE L*), coloured several times, and compared with its true colours. The
tables are printed; results.json, results.md, pictures.jsonl and one PNG a set are written into the
folder --output. Several processes give the same figures as one: `accelerate launch
scripts/evaluate.py ...`. FID, KID and LPIPS are measured where their networks are on this machine;
elsewhere the report says what to download.
"""

from pathlib import Path

import click

from pipeline_colorize.registry import SAMPLERS

AS_THE_MODEL = " By default as the model has it."


@click.command(help=__doc__.replace("\n\n    ", "\n\n\b\n    "))
@click.option(
    "--model",
    default="default",
    show_default=True,
    help="Name of a model that ships, a folder or a repository of the Hub.",
)
@click.option(
    "--data", multiple=True, required=True, help="Folder or data set of the Hub; repeatable."
)
@click.option("--split", default="test", show_default=True, help="Split of the data sets.")
@click.option("--limit", type=click.IntRange(1), help="Pictures of a set, evenly spaced.")
@click.option("--size", type=click.IntRange(16), help="Crop and resize to squares of this side.")
@click.option(
    "--samples",
    default=8,
    show_default=True,
    type=click.IntRange(1),
    help="Colourings of a picture that are asked for together.",
)
@click.option("--candidates", type=click.IntRange(1), help="Drawn for each sample." + AS_THE_MODEL)
@click.option("--steps", type=click.IntRange(1), help="Denoising steps." + AS_THE_MODEL)
@click.option(
    "--temperature", type=click.FloatRange(0), help="Scale of the starting noise." + AS_THE_MODEL
)
@click.option(
    "--saturation",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Factor on chroma, beside the model's.",
)
@click.option(
    "--eta", type=click.FloatRange(0, 1), help="Share of fresh noise in a step." + AS_THE_MODEL
)
@click.option(
    "--processing-resolution",
    type=click.IntRange(0),
    help="Working size of the short side, in pixels." + AS_THE_MODEL,
)
@click.option(
    "--second-look",
    type=click.FloatRange(1),
    help="How many times finer the second look is." + AS_THE_MODEL,
)
@click.option("--scheduler", type=click.Choice(list(SAMPLERS)), help="Another sampler.")
@click.option(
    "--onnx",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Colour by this ONNX file of the model.",
)
@click.option(
    "--batch-size",
    default=16,
    show_default=True,
    type=click.IntRange(1),
    help="Pictures that are coloured at a time.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the noise.")
@click.option(
    "--output",
    default="runs/evaluation",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for the results.",
)
@click.option(
    "--hints",
    multiple=True,
    type=click.IntRange(1),
    help="Also measure with this many true colours given as hints; repeatable.",
)
@click.option(
    "--mean-color", metavar="SPLIT", help="Also measure the mean colour of this split, everywhere."
)
@click.option(
    "--against",
    metavar="MODEL",
    help="Also colour by this model, and compare the two picture by picture.",
)
@click.option(
    "--card",
    type=click.Path(path_type=Path, exists=True),
    help="Model card whose front matter gets the main figures.",
)
@click.option(
    "--video",
    is_flag=True,
    help="--data are true films, or folders of frames, of one shot each, or photographs, over "
    "which a camera then moves; measure how steady they become, too.",
)
@click.option(
    "--window",
    type=click.IntRange(5),
    help="With --video: compare the ways on this many frames from the middle of each film alone, "
    "since to colour each frame takes long.",
)
def main(data, onnx, output, card, video, window, **options):
    if video:
        click.echo(measure_films(data, output, onnx, window, **options))
        return
    from pipeline_colorize.evaluation.protocol import EvaluationSettings, evaluate
    from pipeline_colorize.evaluation.report import to_markdown, update_card, write_report

    try:
        done = evaluate(EvaluationSettings(**options), data, onnx)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if done is None:  # another process reports
        return
    report, results = done
    write_report(report, results, output)
    if card is not None:
        update_card(card, report)
    click.echo(to_markdown(report))


def measure_films(data, output, onnx, window, model, seed, limit, **_) -> str:
    """Measure films frame by frame and as films; the table is written and returned."""
    import json

    from pipeline_colorize import ORTColorizationPipeline, VideoColorizer
    from pipeline_colorize.evaluation.film import evaluate_film, read_clip, to_table

    load = ORTColorizationPipeline if onnx else ORTColorizationPipeline.from_pretrained
    colorizer = VideoColorizer(load(onnx or model), seed)
    output.mkdir(parents=True, exist_ok=True)
    results = {}
    for clip in data:
        try:
            frames = read_clip(clip, limit)
        except (OSError, ValueError) as error:
            raise click.ClickException(str(error)) from error
        results[Path(clip).stem] = evaluate_film(colorizer, frames, window)
        (output / "films.json").write_text(json.dumps(results, indent=2))
        (output / "films.md").write_text(to_table(results))
    return to_table(results)


if __name__ == "__main__":
    main()
