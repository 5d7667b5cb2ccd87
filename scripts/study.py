"""Study what a model should be like: its sampler, its dials, its training, its full-size colours.

    python scripts/study.py sampler --data PATH --data PATH --output runs/sampler
    python scripts/study.py candidates --data ~/faces --setting "3 steps, 16 candidates"
    python scripts/study.py training configs/studies/default.yaml --datasets A --datasets B
    python scripts/study.py upsampling space/examples/color
    python scripts/study.py margins space/examples
    python scripts/study.py album space/examples/color
    python scripts/study.py references space/examples/color --films clips
    python scripts/study.py mends space/examples/color

Figures are added one by one, and a second run continues where the first was stopped. What was
learned by these is in docs/notebook.
"""

from pathlib import Path

import click

MODEL = click.option(
    "--model", default="default", show_default=True, help="Name of a model that ships, or a folder."
)
DATA = click.option(
    "--data", multiple=True, required=True, help="Folder or data set of the Hub; repeatable."
)
SPLIT = click.option(
    "--split", default="validation", show_default=True, help="Split of the data sets."
)
LIMIT = click.option(
    "--limit", default=40, show_default=True, help="Pictures of a set, evenly spaced."
)


def output(default: str):
    """Make the option for the folder of figures and report."""
    return click.option(
        "--output",
        default=default,
        show_default=True,
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder for figures and report.",
    )


def report(study, *arguments) -> None:
    """Run a study and show its report, with its errors as messages for people."""
    try:
        click.echo(study(*arguments))
    except ValueError as error:
        raise click.ClickException(str(error)) from error


@click.group(help=__doc__.replace("\n\n    ", "\n\n\b\n    "))
def main():
    pass


@main.command()
@MODEL
@DATA
@SPLIT
@LIMIT
@click.option("--most", default=1000, show_default=True, help="Leave out points with more steps.")
@output("runs/sampler")
def sampler(model, data, split, limit, most, output):
    """How many steps, of which sampler? Quality against network calls, with a plot.

    Colours the same pictures, twice each, by every scheduler that reproduces the model's noise
    schedule, at 1 to 1000 steps; then by the model's at several shares of fresh noise (eta) and
    temperatures.

    The main figure is the energy score in a*b*: the mean distance of a sample to the truth less
    half of that between two samples. It is least where the samples are spread as the truth is.
    """
    from studies.sampler import load, run

    def study() -> str:
        sets = {Path(path).name: load(path, split, limit) for path in data}
        return run(model, sets, most, output)

    report(study)


@main.command()
@MODEL
@DATA
@SPLIT
@LIMIT
@click.option("--side", default=256, show_default=True, help="Largest short side of a picture.")
@click.option(
    "--setting",
    "settings",
    multiple=True,
    help='Such as "3 steps, 16 candidates, saturation 1.2"; repeatable. By default as it is.',
)
@click.option("--seeds", default=2, show_default=True, help="Answers that are drawn one by one.")
@click.option("--samples", default=4, show_default=True, help="Answers that are drawn together.")
@output("runs/candidates")
def candidates(model, data, settings, output, **options):
    """Which steps, candidates and colour dials? One row of figures a setting.

    A setting is the model with other defaults, run by onnxruntime. --data may also be a pattern of
    files, such as "~/old/fsa-*.jpg".
    """
    from studies.candidates import StudyOptions, run

    report(run, model, data, settings, output, StudyOptions(**options))


@main.command()
@click.argument("file", metavar="STUDY", type=click.Path(path_type=Path, exists=True))
@click.option("--datasets", multiple=True, required=True, help="Folder or data set; repeatable.")
@click.option("--minutes", default=5.0, show_default=True, help="Training time of a trial.")
@click.option("--limit", default=100, show_default=True, help="Pictures of a set to measure on.")
@click.option("--only", multiple=True, help="Name of a trial to run alone; repeatable.")
@output("runs/study")
def training(file, datasets, minutes, limit, only, output):
    """Which settings train a better model in the same time? A table of trials.

    Each trial of the file STUDY is trained for the same time from scratch: a few steps show how
    many fit in. Then it colours the same `validation` pictures twice each. Nothing else should run
    beside it.
    """
    from studies.training import run

    report(run, file, datasets, limit, minutes, only, output)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--longest", default=768, show_default=True, help="Long side of a picture, in pixels."
)
def upsampling(folder, longest):
    """How should chroma come to full size? Compares ways on the colour photographs of FOLDER.

    True chroma is averaged down to a grid and brought back under the exact luminance; what is lost
    is measured in CIEDE2000, over the picture and next to edges of the luminance.
    """
    from studies.upsampling import compare

    report(compare, folder, longest)


@main.command()
@MODEL
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--longest", default=640, show_default=True, help="Long side of a photograph, in pixels."
)
def margins(model, folder, longest):
    """Do margins change the colours inside? Mean C* with margins, as a ratio to that without.

    Each photograph of FOLDER is put on black, grey and white margins of 3 to 60 % of its sides.
    Where the margins are found to the pixel, the model sees the bare photograph, and the ratio is 1
    without a second colouring.
    """
    from studies.margins import run

    report(run, folder, model, longest)


@main.command()
@MODEL
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--photographs", default=5, show_default=True, help="Photographs, evenly spaced.")
@click.option("--pictures", default=30, show_default=True, help="Pictures of the album.")
@click.option("--side", default=200, show_default=True, help="Short side of a picture, in pixels.")
@click.option("--seed", default=0, show_default=True, help="Start of the random numbers.")
@output("runs/album")
def album(folder, model, output, **options):
    """Does an album agree with itself? Spread of one place's colour, alone and together.

    Pictures are crops of the colour photographs of FOLDER, turned, tilted and in another light.
    """
    from studies.album import AlbumOptions, run

    report(run, folder, model, output, AlbumOptions(**options))


@main.command()
@MODEL
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--films",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of films, of which two frames make a pair.",
)
@click.option("--kinds", help="Data set with labels, of which two pictures of one make a pair.")
@click.option(
    "--network",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Network whose features match, too, as scripts/pretrained.py teacher makes it.",
)
@click.option("--pairs", default=16, show_default=True, help="Pairs of each protocol, at most.")
@click.option("--seconds", default=2.0, show_default=True, help="Time between two frames.")
@click.option("--side", default=224, show_default=True, help="Short side of a picture, in pixels.")
@click.option("--seed", default=0, show_default=True, help="Start of the random numbers.")
@output("runs/references")
def references(folder, model, output, **options):
    """Does a picture in colour help another one? CIEDE2000 with none, with it, with true hints.

    Pairs are two crops of one photograph of FOLDER, two frames of a film, two pictures of one kind,
    and two of different things, which must not change anything.
    """
    from studies.references import ReferenceOptions, run

    report(run, folder, model, output, ReferenceOptions(**options))


@main.command()
@MODEL
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--photographs", default=8, show_default=True, help="Photographs, evenly spaced.")
@click.option(
    "--longest", default=1024, show_default=True, help="Long side of a photograph, in pixels."
)
@click.option("--seed", default=5, show_default=True, help="Start of the random numbers.")
def mends(folder, model, **options):
    """How long does a mend take, and is the place better afterwards?

    A circle in each photograph of FOLDER is given a strong colour at equal light, and a larger one
    is mended, with fewer candidates, with one look, and in 8 bits as well. Processor seconds are
    what counts on a machine that does other things, too; set OMP_NUM_THREADS=1 to compare them.
    """
    from studies.mends import MendOptions, run

    report(run, folder, model, MendOptions(**options))


if __name__ == "__main__":
    main()
