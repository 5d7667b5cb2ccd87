"""Measure speed and memory: of the pipeline, the command, the page and the training.

    python scripts/benchmark.py systems --model default
    python scripts/benchmark.py command space/examples

Times are medians, and what is compared takes turns, so that a machine that is busy now and then
favours none. `benchmark.py NAME --help` says what each of the benchmarks measures.
"""

import json
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "space" / "examples"
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
MODEL = click.option(
    "--model",
    default="default",
    show_default=True,
    help="Name of a model that ships, a folder or a repository of the Hub.",
)
OUTPUT = click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON file for the figures.",
)
LEAST = click.option(
    "--seconds", "least", default=2.0, show_default=True, help="Least time to spend on each."
)
MORE = click.argument("more", metavar="[-- OPTIONS]", nargs=-1, type=click.UNPROCESSED)


@click.group(help=__doc__.replace("\n\n    ", "\n\n\b\n    "))
def main():
    pass


def save(figures: dict, output: Path | None) -> None:
    """Write figures as JSON where a file is given."""
    if output is not None:
        output.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


@main.command()
@MODEL
@click.option(
    "--side",
    "sides",
    multiple=True,
    default=(128, 512, 1024),
    show_default=True,
    help="Side of a picture in pixels; repeatable.",
)
@click.option("--only", multiple=True, help="Name of a system beside this project; repeatable.")
@LEAST
@OUTPUT
def systems(model, sides, only, least, output):
    """Time the pipeline beside what one could use instead.

    Each system colours grey pictures in a process of its own, in bfloat16 where the CPU computes it
    natively, else in float32. The others have random weights, since speed does not depend on them,
    and of samplers with many steps a few are timed and multiplied.
    """
    from benchmarks.systems import compare

    try:
        save(compare(model, list(sides), only, least), output)
    except (RuntimeError, ValueError) as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME=FOLDER",
    help="Model of the recipe NAME; repeatable. By default those that ship.",
)
@LEAST
@OUTPUT
def recipes(models, least, output):
    """Time two of the recipes beside the settings that their systems were published with.

    Each colours a grey picture of 64x64 pixels, with everything from picture to picture where it is
    ours. The published settings are timed by a few steps of networks of their widths with random
    weights, multiplied by their number of steps.
    """
    from benchmarks.recipes import PUBLISHED, compare

    chosen = dict(one.split("=", 1) for one in models) or {name: name for name in PUBLISHED}
    try:
        save(compare(chosen, least), output)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@MODEL
@click.option("--rounds", default=9, show_default=True, help="Turns, whose median is shown.")
def pipeline(model, rounds):
    """Time what makes the pipeline quick on a CPU, and its parts.

    Every setting colours the same photograph in turns, in one process, without reading and writing
    files. Then come the parts of the default setting, for 1024x768 pixels and for 12 megapixels.
    """
    from benchmarks.pipeline import compare

    compare(model, rounds)


@main.command()
@click.argument("source", type=FOLDER)
@click.option("--runs", default=5, show_default=True, help="Runs, whose median is shown.")
@click.option("--further", default=10, show_default=True, help="Further photographs of a run.")
@click.option("--runtime", default="auto", show_default=True, help="auto, onnx or torch.")
@MORE
def command(source, runs, further, runtime, more):
    """Time the command `colorize` from shell to file, on photographs (JPEG) made from SOURCE.

    Measures one photograph of 1024x768 pixels with start-up and loading of the model, what each
    further one adds, 12 megapixels, and peak memory. Behind `--` stand options of the command.
    """
    from benchmarks.command import measure

    measure(source, runs, further, ["--runtime", runtime, *more])


@main.command()
@click.option(
    "--source",
    type=FOLDER,
    default=EXAMPLES,
    show_default="space/examples",
    help="Folder of photographs.",
)
@click.option(
    "--processes",
    multiple=True,
    default=(1, 2),
    show_default=True,
    help="Number of processes; repeatable.",
)
@click.option(
    "--pictures",
    multiple=True,
    default=(10, 100, 1000, 10000),
    show_default=True,
    help="Number of pictures; repeatable.",
)
@click.option("--share", default=200, show_default=True, help="Pictures that processes share.")
@click.option("--side", default=192, show_default=True, help="Short side of a picture in pixels.")
@click.option("--limit", default=1800.0, show_default=True, help="Seconds for each run.")
@MORE
def scale(more, **options):
    """Count pictures a second against processes, and peak memory against pictures.

    Runs the command `colorize` on folders of small pictures, each time in new processes that share
    the work as under a launcher. Behind `--` stand options of the command.
    """
    from benchmarks.scale import ScaleOptions, compare

    compare(ScaleOptions(**options), list(more))


@main.command()
@click.argument("photograph", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--megapixels", default=99.9, show_default=True, help="Size of the master.")
def masters(photograph, megapixels):
    """Time the laying of colours over a large master that is made from PHOTOGRAPH.

    A small copy is coloured with `--chroma-only`, and the colours are laid over a grey TIFF of 16
    bits with `--chroma`. Then four tiles are compared with the same parts of the result.
    """
    from benchmarks.masters import measure

    measure(photograph, megapixels)


@main.command()
@click.argument("photograph", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--frames", default=72, show_default=True, help="Of a film.")
@click.option(
    "--size",
    "sizes",
    multiple=True,
    default=("640x480", "1920x1080"),
    show_default=True,
    help="Of its frames, in pixels; repeatable.",
)
def film(photograph, frames, sizes):
    """Time a film from file to file, and each of its parts, beside each frame alone.

    The film is a pan over PHOTOGRAPH. The shares of the parts are processor time. It needs the
    extra `video`.
    """
    from benchmarks.film import measure

    measure(photograph, [tuple(map(int, size.split("x"))) for size in sizes], frames)


@main.command()
@click.argument("folder", type=FOLDER)
@click.option(
    "--busy",
    multiple=True,
    type=int,
    default=(0, 8),
    show_default=True,
    help="Number of busy programs beside the command; repeatable.",
)
@click.option("--rounds", default=3, show_default=True, help="Turns, whose median is shown.")
def load(folder, busy, rounds):
    """Time the command on the photographs of FOLDER beside programs that keep the cores busy.

    Both engines colour them, with threads that sleep or keep their cores while they wait.
    """
    from benchmarks.load import compare

    compare(folder, list(busy), rounds)


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--size", default="1024x768", show_default=True, help="Of the photograph, in pixels.")
@click.option("--visits", default=3, show_default=True, help="Visits, whose median is shown.")
def browser(folder, size, visits):
    """Time the page in FOLDER, which scripts/build_browser.py has built, in a headless Chromium.

    Each visit begins with nothing kept from the one before. The page comes from this computer, so
    that loading is without the network. It needs the extra `test`, and a browser.
    """
    from benchmarks.browser import report

    width, height = map(int, size.split("x"))
    report(folder, (width, height), visits)


@main.command()
@click.argument(
    "photograph",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=EXAMPLES / "mark-twain-1907.jpg",
)
@click.option("--people", default=8, show_default=True, help="How many ask at the same moment.")
@click.option("--samples", default=2, show_default=True, help="Answers for each of them.")
def people(photograph, people, samples):
    """Start the Space, and let several people ask for the colours of PHOTOGRAPH at once.

    Each gives a photograph that is turned or cropped in its own way, so that it shows whether
    anybody gets what belongs to another. It needs the extras `space` and `test`.
    """
    from benchmarks.people import report

    report(photograph, people, samples)


@main.command(context_settings={"ignore_unknown_options": True})
@click.option("--steps", default=8, show_default=True, help="Steps of each turn.")
@click.option("--rounds", default=5, show_default=True, help="Turns of each.")
@click.option(
    "--stock-batch",
    default=8,
    show_default=True,
    help="Pictures a step for the stock network; 0 leaves it out.",
)
@click.option(
    "--settings", is_flag=True, help="Also compare precisions, memory formats, torch.compile."
)
@click.option("--profile", is_flag=True, help="Also list the operators that take most time.")
@click.argument("fields", metavar="[--config FILE] [--FIELD VALUE]...", nargs=-1)
def training(fields, **options):
    """Time train_colorize.py against a bare loop, part by part, and against UNet2DModel.

    Pictures are made up, so that no data set is needed; what is measured begins at decoded pictures
    in memory. FIELDs are those of train_colorize.py.
    """
    from benchmarks.training import BenchmarkOptions, benchmark

    benchmark(list(fields), BenchmarkOptions(**options))


if __name__ == "__main__":
    main()
