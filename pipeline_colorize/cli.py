"""The options and the help of `colorize`: black-and-white photographs in, coloured ones out."""

import logging
import sys
import warnings

import click

from pipeline_colorize import __version__, photo
from pipeline_colorize.command.manual import manual_page
from pipeline_colorize.command.options import (
    HINT,
    MEND,
    SHARD,
    TIME,
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
    ("colorize a.jpg --colored b.jpg --mend 140,95", "one thing in b.jpg anew"),
    ("colorize a.jpg --reference c.jpg", "the colours of another print"),
    ("colorize album/ -o color/ --consistent", "the same coat in the same colour"),
    ("colorize - < grandma.jpg > color.jpg", "as part of a pipe"),
    ("colorize faces.parquet -o faces/", "the pictures of a data set"),
    ("colorize album/ -o color/ --shard 2/8", "the second of eight parts"),
    ("colorize s3://bucket/album/ -o color.tar", "from S3, to a single file"),
    ("colorize small.jpg --chroma-only", "writes small.chroma.png"),
    ("colorize master.tif --chroma small.chroma.png", "its colours at any size"),
    ("colorize film.mkv --preview 10s", "a film, or first a part of it"),
)
NOTES = (
    "To continue a run that was interrupted, repeat the command: finished photographs are skipped "
    "unless they, or what you say of their colours, have changed since. Each result states in its "
    "metadata that its colours were generated, and by which model, settings and seed.",
    "Exit codes: 0 if all went well, 1 if something failed, 2 if the options are wrong, 130 after "
    "Ctrl-C, 143 after SIGTERM.",
)

MODEL = "the model's"  # default

files = section("Photographs and results")
colours = section("Colours")
pictures = section("More pictures")
films = section("Films")
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
    help="File, folder or address for the results; - means standard output, and a .tar, .zip or "
    ".parquet holds them all.  [default: NAME-colorized beside each photograph]",
)
@files("-r", "--recursive", is_flag=True, help="Search folders with all their sub-folders.")
@files("--overwrite", is_flag=True, help="Colour finished photographs again.")
@files("--keep-dates", is_flag=True, help="Give results the file dates of their photographs.")
@files(
    "--recolor",
    is_flag=True,
    help="Also take photographs that are already in colour. Without this, they are left out "
    "where there are several photographs.",
)
@files(
    "--pages",
    is_flag=True,
    help="Take all pages of a TIFF, and write each to a file: NAME-page1, NAME-page2, ...",
)
@files(
    "--chroma-only",
    is_flag=True,
    help="Write the colours alone, to NAME.chroma.png: some kilobytes, for masters of any size.",
)
@files(
    "--chroma",
    metavar="PATH",
    type=PathText(),
    help="Take the colours from a file that --chroma-only wrote, or from a folder of such files, "
    "and lay them over the photographs.",
)
@files(
    "--shard",
    type=SHARD,
    help="Take only the I-th of N parts, to share the photographs among machines.",
)
@files(
    "--max-pixels",
    metavar="N",
    type=click.IntRange(1),
    default=Settings.max_pixels,
    show_default=True,
    help="Refuse photographs with more pixels.",
)
@colours(
    "--model",
    metavar="MODEL",
    type=ModelText(),
    default=Settings.model,
    show_default=True,
    help="A model that comes with this program, a folder, an ONNX file, or a repository of the "
    "Hub.",
)
@colours(
    "--seed",
    metavar="N",
    default=Settings.seed,
    show_default=True,
    help="Start of the random numbers; another seed gives other colours.",
)
@colours(
    "--samples",
    metavar="N",
    type=click.IntRange(1),
    default=Settings.samples,
    show_default=True,
    help="Number of answers for each photograph, written to NAME-1, NAME-2, ...",
)
@colours(
    "--hint",
    type=HINT,
    multiple=True,
    help="A colour that you know, and where it is, in pixels from the top left of the photograph "
    "as shown: 140,95,#7a1f2b or 140,95,darkred. CONFIDENCE, up to 1, is the probability that it "
    "is right, as in 140,95,darkred,0.8; 1 is certain. Can be repeated.",
)
@colours(
    "--reference",
    metavar="PATH[@TIME]",
    type=PathText(),
    multiple=True,
    help="A picture in colour that shows the same, such as another print, or a folder of them; "
    "its colours are taken where both have the same light. TIME says which frame of a film it is, "
    "as in frame.png@1:30. Can be repeated.",
)
@colours(
    "--consistent",
    is_flag=True,
    help="Give the same colours to things that several of the photographs show, as in an album of "
    "one event.",
)
@colours(
    "--colored",
    metavar="FILE",
    type=PathText(),
    help="A result for this photograph; its colours are kept, and --mend or --strength says what "
    "changes.",
)
@colours(
    "--mend",
    type=MEND,
    multiple=True,
    help="Invent anew the colours of the thing at this place, as far as RADIUS pixels from it; all "
    "others stay as they are in --colored. Can be repeated.",
)
@colours(
    "--strength",
    metavar="X",
    type=FiniteRange(0, 1),
    default=Settings.strength,
    show_default=True,
    help="How much the colours of --colored change: 1 forgets them, .3 to .7 varies them.",
)
@colours(
    "--keep-tints",
    is_flag=True,
    help="Keep the colours of photographs that were tinted by hand, and colour the rest of them.",
)
@colours(
    "--candidates",
    metavar="N",
    type=click.IntRange(1),
    show_default=MODEL,
    help="Number of colourings drawn for an answer, which keeps what most of them agree on; "
    "several answers share them. 1 is quickest and liveliest; more avoid odd tints.",
)
@colours(
    "--second-look",
    metavar="X",
    type=FiniteRange(1),
    show_default=MODEL,
    help="Draw the colours a second time on a grid X times as fine, where the photograph has "
    "enough pixels; 1 skips this, which is quicker.",
)
@colours(
    "--find-margins/--no-find-margins",
    default=Settings.find_margins,
    show_default="on",
    help="Find even margins, such as a scanner's lid or an album page, hide them from the model, "
    "and leave them neutral.",
)
@colours(
    "--saturation",
    metavar="X",
    type=FiniteRange(0),
    default=Settings.saturation,
    show_default=True,
    help="Multiply the strength of the colours by X.",
)
@colours(
    "--temperature",
    metavar="X",
    type=FiniteRange(0),
    show_default=MODEL,
    help="Variety of the colours: 1 draws a possible colouring, 0 gives the average of all.",
)
@colours(
    "--processing-resolution",
    metavar="PIXELS",
    type=click.IntRange(0),
    show_default=MODEL,
    help="Short side of the picture that the model sees; 0 takes the photograph's.",
)
@colours(
    "--steps",
    metavar="N",
    type=click.IntRange(1, 1000),
    show_default=MODEL,
    help="Number of denoising steps.",
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
    help="Share of fresh noise in each step, for samplers that add some.",
)
@pictures("--compare", is_flag=True, help="Also write NAME-compare, before and after side by side.")
@pictures(
    "--uncertainty",
    is_flag=True,
    help="Also write NAME-uncertainty, which is bright where the model is unsure.",
)
@pictures(
    "--intermediates",
    is_flag=True,
    help="Also write NAME-intermediates, which shows the denoising as a GIF and as a strip.",
)
@films(
    "--preview",
    type=TIME,
    help="Colour only so much of the film, from --from on: 10s, 2m, 1:30.",
)
@films("--from", "begin", type=TIME, default="0", help="Begin the film here.  [default: 0]")
@films("--to", "end", type=TIME, help="End the film here.")
@films(
    "--codec",
    metavar="NAME",
    type=click.Choice(["h264", "h265", "av1", "vp9", "mpeg4", "prores", "ffv1"]),
    help="Codec: h264, h265, av1, vp9, mpeg4, prores or ffv1, which loses nothing.  "
    "[default: h264; av1 in .webm, mpeg4 in .avi]",
)
@films(
    "--quality",
    metavar="N",
    type=click.IntRange(0, 63),
    help="Quality of h264, h265, av1, vp9 and mpeg4, as FFmpeg's crf and qscale have it: less is "
    "better and larger.  [default: 17, 19, 24, 24, 3]",
)
@films(
    "--shots",
    metavar="FILE",
    type=PathText(),
    help="Table (CSV) with the first frame of each shot, where the cuts that were found are wrong.",
)
@films(
    "--keep-work",
    is_flag=True,
    help="Keep the folder OUTPUT.work with the finished shots, so that a later run does only "
    "those that have changed.",
)
@speed(
    "--batch-size",
    metavar="N",
    type=click.IntRange(1),
    default=Settings.batch_size,
    show_default=True,
    help="Number of photographs that the model colours at a time; more is quicker on a GPU.",
)
@speed(
    "--runtime",
    metavar="NAME",
    type=click.Choice(["auto", "onnx", "torch"]),
    default=Settings.runtime,
    show_default=True,
    help="Engine: onnx, which starts in a second, or torch; auto takes onnx unless another "
    "option or a graphics card calls for torch.",
)
@speed(
    "--device",
    metavar="NAME",
    default=Settings.device,
    show_default=True,
    help="Where torch runs: cpu, cuda, cuda:1, mps, ...",
)
@speed(
    "--dtype",
    metavar="NAME",
    type=click.Choice(["auto", "float32", "bfloat16", "float16", "int8"]),
    default=Settings.dtype,
    show_default=True,
    help="Precision: float32, bfloat16 or float16 of torch, where auto takes bfloat16 if the "
    "processor has it; int8 of onnxruntime, in about half the time, with slightly other colours.",
)
@output("--json", is_flag=True, help="Print one line of JSON for each photograph.")
@output("-q", "--quiet", is_flag=True, help="Print failures only.")
@output("-n", "--dry-run", is_flag=True, help="Print what would be written, without writing it.")
@output(
    "--man",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_manual,
    help="Print the manual page. To read it: colorize --man | man -l -",
)
@click.version_option(__version__, prog_name="colorize")
def main(**options) -> None:
    """Give black-and-white photographs believable colours.

    INPUTS are photographs, folders, patterns, data sets (parquet, tar, zip), addresses, or - for
    standard input. Only colour is added: the light of each photograph, its size, format and
    metadata are kept.
    """
    settings = Settings(**options)
    with warnings.catch_warnings(), photo.pixel_limit(settings.max_pixels):
        warnings.simplefilter("ignore")
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # its complaints are in ours
        code = run(settings)
    sys.exit(code)


if __name__ == "__main__":
    main()
