"""The options and the help of `colorize`: black-and-white photographs in, coloured ones out."""

import logging
import sys
import warnings

import click

from pipeline_colorize import __version__, photo
from pipeline_colorize.command.manual import manual_page
from pipeline_colorize.command.options import (
    HINT,
    SHARD,
    Command,
    FiniteRange,
    ModelText,
    PathText,
    section,
)
from pipeline_colorize.command.run import run
from pipeline_colorize.command.settings import Settings
from pipeline_colorize.registry import SAMPLERS

EXAMPLES = (
    ("colorize grandma.jpg", "writes grandma-colorized.jpg"),
    ("colorize grandma.jpg -o color.png", "another name and format"),
    ("colorize album/ -o album-color/ --recursive", "a folder with its sub-folders"),
    ('colorize "scans/*.tif" --compare', "with before/after pictures"),
    ("colorize grandma.jpg --samples 4", "four answers to choose from"),
    ("colorize grandma.jpg --hint 140,95,darkred", "her dress was dark red there"),
    ("colorize - < grandma.jpg > color.jpg", "as part of a pipe"),
    ("colorize faces.parquet -o faces/", "the pictures of a data set"),
    ("colorize album/ -o color/ --shard 2/8", "the second of eight parts"),
)
NOTES = (
    "A folder run that was cut off is continued by the same command: what is done already is "
    "skipped, unless the photograph has changed since. Each result says in its metadata that its "
    "colours were generated, and by which model, settings and seed.",
    "Exit codes: 0 all is well, 1 something failed, 2 the options are wrong, 130 stopped with "
    "Ctrl-C.",
)

MODEL = "the model's"  # default

files = section("Photographs and results")
colours = section("Colours")
pictures = section("More pictures")
speed = section("Speed")
output = section("Messages")


def _print_manual(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(manual_page(ctx, __version__), nl=False)
        ctx.exit()


@click.command(
    "colorize",
    cls=Command,
    examples=EXAMPLES,
    notes=NOTES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("inputs", nargs=-1, required=True, type=PathText())
@files(
    "-o",
    "--output",
    metavar="PATH",
    type=PathText(),
    help="File or folder for the results; - is standard output. [default: NAME-colorized beside "
    "each photograph]",
)
@files("-r", "--recursive", is_flag=True, help="Search the sub-folders of folders, too.")
@files("--overwrite", is_flag=True, help="Colorize again what is done already.")
@files("--keep-dates", is_flag=True, help="Give results the file dates of their photographs.")
@files(
    "--recolor",
    is_flag=True,
    help="Take photographs that are in colour, too. Otherwise they are left out where there are "
    "several.",
)
@files(
    "--pages",
    is_flag=True,
    help="Take all pages of a TIFF, each as a photograph: NAME-page1, NAME-page2, ...",
)
@files(
    "--shard",
    type=SHARD,
    help="Do only the I-th of N equal parts of the photographs, for runs on several machines.",
)
@files(
    "--max-pixels",
    metavar="N",
    type=click.IntRange(1),
    default=Settings.max_pixels,
    show_default=True,
    help="Refuse larger photographs.",
)
@colours(
    "--model",
    metavar="MODEL",
    type=ModelText(),
    default=Settings.model,
    show_default=True,
    help="A model that ships, a folder, an ONNX file, or a repository of the Hub.",
)
@colours(
    "--seed",
    metavar="N",
    default=Settings.seed,
    show_default=True,
    help="Number of the answer: another seed gives other colours.",
)
@colours(
    "--samples",
    metavar="N",
    type=click.IntRange(1),
    default=Settings.samples,
    show_default=True,
    help="Answers to each photograph, written as NAME-1, NAME-2, ...",
)
@colours(
    "--hint",
    type=HINT,
    multiple=True,
    help="A colour that you know, and where it is, in pixels from the top left of the photograph "
    "as shown: 140,95,#7a1f2b or 140,95,darkred. Can be repeated.",
)
@colours(
    "--candidates",
    metavar="N",
    type=click.IntRange(1),
    show_default=MODEL,
    help="Colourings drawn for each answer, which takes from them what most agree on. 1 is "
    "quickest and liveliest; more leave out odd tints.",
)
@colours(
    "--second-look",
    metavar="X",
    type=FiniteRange(1),
    show_default=MODEL,
    help="Draw the colours again on a grid X times as fine, where the photograph has the pixels "
    "for it; 1 leaves that out, which is quicker.",
)
@colours(
    "--saturation",
    metavar="X",
    type=FiniteRange(0),
    default=Settings.saturation,
    show_default=True,
    help="Factor by which the colours are stronger.",
)
@colours(
    "--temperature",
    metavar="X",
    type=FiniteRange(0),
    show_default=MODEL,
    help="1 gives one of the possible colourings, 0 the expected one.",
)
@colours(
    "--processing-resolution",
    metavar="PIXELS",
    type=click.IntRange(0),
    show_default=MODEL,
    help="Short side of the picture that the model sees; 0 is the photograph's.",
)
@colours(
    "--steps",
    metavar="N",
    type=click.IntRange(1, 1000),
    show_default=MODEL,
    help="Denoising steps.",
)
@colours(
    "--scheduler",
    metavar="NAME",
    type=click.Choice(list(SAMPLERS)),
    show_default=MODEL,
    help=f"Sampler: {', '.join(SAMPLERS)}.",
)
@colours(
    "--eta",
    metavar="X",
    type=FiniteRange(0, 1),
    show_default=MODEL,
    help="Share of fresh noise in each step, for samplers that take it.",
)
@pictures("--compare", is_flag=True, help="Also write NAME-compare: before and after.")
@pictures(
    "--uncertainty",
    is_flag=True,
    help="Also write NAME-uncertainty, which is bright where the model is unsure.",
)
@pictures(
    "--intermediates",
    is_flag=True,
    help="Also write NAME-intermediates: how the colours came about, as a GIF and as a strip.",
)
@speed(
    "--batch-size",
    metavar="N",
    type=click.IntRange(1),
    default=Settings.batch_size,
    show_default=True,
    help="Photographs through the model at a time; more is quicker on a GPU.",
)
@speed(
    "--runtime",
    metavar="NAME",
    type=click.Choice(["auto", "onnx", "torch"]),
    default=Settings.runtime,
    show_default=True,
    help="Engine: onnx, which starts in a second, or torch; auto is onnx where it is installed "
    "and the other options allow it.",
)
@speed(
    "--device",
    metavar="NAME",
    default=Settings.device,
    show_default=True,
    help="cpu, cuda, cuda:1, mps, ...",
)
@speed(
    "--dtype",
    metavar="NAME",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default=Settings.dtype,
    show_default=True,
    help="Precision: float32, bfloat16, float16; auto is bfloat16 where the processor has it.",
)
@output("--json", is_flag=True, help="Print a JSON object for each photograph, in a line.")
@output("-q", "--quiet", is_flag=True, help="Print nothing but failures.")
@output("-n", "--dry-run", is_flag=True, help="Print what would be written, and write nothing.")
@output(
    "--man",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_manual,
    help="Print the manual page: colorize --man | man -l -",
)
@click.version_option(__version__, prog_name="colorize")
def main(**options) -> None:
    """Give black-and-white photographs their colours.

    INPUTS are photographs, folders, patterns, data sets (parquet), or - for standard input. The
    light of each photograph is kept as it is, as are its size, format, orientation and metadata;
    only the colours are new.
    """
    settings = Settings(**options)
    with warnings.catch_warnings(), photo.pixel_limit(settings.max_pixels):
        warnings.simplefilter("ignore")
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # its complaints are in ours
        code = run(settings)
    sys.exit(code)


if __name__ == "__main__":
    main()
