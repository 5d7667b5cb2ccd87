"""The options and the help of `colorize`: black-and-white photographs in, coloured ones out."""

import logging
import math
import sys
import warnings
from pathlib import Path

import click

from pipeline_colorize import __version__, photo
from pipeline_colorize.command.run import run
from pipeline_colorize.command.settings import Settings, parse_hint
from pipeline_colorize.registry import SAMPLERS

EPILOG = """\b
Examples:
  colorize grandma.jpg                         writes grandma-colorized.jpg
  colorize grandma.jpg -o color.png            another name and format
  colorize album/ -o album-color/ --recursive  a folder, with its sub-folders
  colorize "scans/*.tif" --compare             with before/after pictures
  colorize grandma.jpg --samples 4             four answers to choose from
  colorize grandma.jpg --hint "140,95,#7a1f2b" her dress was dark red there
  colorize faces.parquet -o faces/             the pictures of a data set

\b
Several GPUs or processes share the work, with the same results:
  accelerate launch --multi_gpu -m pipeline_colorize.cli album/ -o color/
  torchrun --nproc_per_node 2 -m pipeline_colorize.cli album/ -o color/

A folder run that was cut off is continued by the same command: what is there
already is skipped. Each result says in its metadata that its colours were
generated, by which model, settings and seed.
"""


class FiniteRange(click.FloatRange):
    """A range of numbers, which "nan" and "inf" are not."""

    def convert(self, value, param, ctx):
        """Called by click; `fail` ends the program with the message."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class HintType(click.ParamType):
    """X,Y,#RRGGBB as (x, y, "#rrggbb")."""

    name = "X,Y,#RRGGBB"

    def convert(self, value, param, ctx):
        """Called by click; `fail` ends the program with the message."""
        try:
            return parse_hint(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("colorize", epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File or folder for the results. [default: NAME-colorized beside each photograph]",
)
@click.option("-r", "--recursive", is_flag=True, help="Search the sub-folders of folders, too.")
@click.option("--overwrite", is_flag=True, help="Do again what is there already.")
@click.option(
    "--model",
    metavar="MODEL",
    default=Settings.model,
    show_default=True,
    help="A model that ships, a folder, an ONNX file, or a repository of the Hub.",
)
@click.option(
    "--seed",
    metavar="N",
    default=Settings.seed,
    show_default=True,
    help="Another seed, other colours.",
)
@click.option(
    "--samples",
    metavar="N",
    type=click.IntRange(1),
    default=Settings.samples,
    show_default=True,
    help="Colourings of each photograph: NAME-1, NAME-2, ...",
)
@click.option(
    "--candidates",
    metavar="N",
    type=click.IntRange(1),
    help="Colourings drawn for each sample, which has at each place what most of them agree on; 1 "
    "is quickest and liveliest, more leave out odd tints. [default: the model's]",
)
@click.option(
    "--hint",
    type=HintType(),
    multiple=True,
    help="A colour that is known at a place, in pixels from the top left of the photograph as "
    "shown; repeatable.",
)
@click.option(
    "--saturation",
    metavar="X",
    type=FiniteRange(0),
    default=Settings.saturation,
    show_default=True,
    help="Factor on the colours' strength.",
)
@click.option(
    "--temperature",
    metavar="X",
    type=FiniteRange(0),
    help="1: one possible colouring; 0: the expected one. [default: the model's]",
)
@click.option(
    "--steps",
    metavar="N",
    type=click.IntRange(1, 1000),
    help="Denoising steps. [default: the model's]",
)
@click.option(
    "--scheduler", type=click.Choice(list(SAMPLERS)), help="Sampler. [default: the model's]"
)
@click.option(
    "--eta",
    metavar="X",
    type=FiniteRange(0, 1),
    help="Fresh noise in each step, for samplers that know it; 0: none. [default: the model's]",
)
@click.option(
    "--processing-resolution",
    metavar="PIXELS",
    type=click.IntRange(0),
    help="Short side at which colours are invented; 0: its own. [default: the model's]",
)
@click.option(
    "--second-look",
    metavar="X",
    type=FiniteRange(1),
    help="Look a second time, so many times as closely, at photographs that have the pixels for "
    "it; 1: one look, which is quicker. [default: the model's]",
)
@click.option("--compare", is_flag=True, help="Also write NAME-compare: before and after.")
@click.option(
    "--uncertainty",
    is_flag=True,
    help="Also write NAME-uncertainty: bright where the model is unsure.",
)
@click.option(
    "--intermediates",
    is_flag=True,
    help="Also write NAME-intermediates: the denoising as a GIF and as a strip.",
)
@click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(1),
    default=Settings.batch_size,
    show_default=True,
    help="Photographs through the model at a time; more is quicker on a GPU.",
)
@click.option(
    "--runtime",
    type=click.Choice(["auto", "onnx", "torch"]),
    default=Settings.runtime,
    show_default=True,
    help="Engine. onnx starts in a second; auto takes it where it is installed and the other "
    "options allow it.",
)
@click.option(
    "--device",
    metavar="NAME",
    default=Settings.device,
    show_default=True,
    help="cpu, cuda, cuda:1, mps, ...",
)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default=Settings.dtype,
    show_default=True,
    help="Precision; auto: bfloat16 where the processor has it.",
)
@click.option(
    "--max-pixels",
    metavar="N",
    type=click.IntRange(1),
    default=Settings.max_pixels,
    show_default=True,
    help="Refuse larger photographs.",
)
@click.version_option(__version__, prog_name="colorize")
def main(**options) -> None:
    """Give black-and-white photographs their colours.

    INPUTS are photographs, folders, patterns or data sets (parquet). The light of each photograph
    is kept as it is, as are its size, format, orientation and metadata; only the colours are new.
    """
    settings = Settings(**options)
    with warnings.catch_warnings(), photo.pixel_limit(settings.max_pixels):
        warnings.simplefilter("ignore")
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # its complaints are in ours
        code = run(settings)
    sys.exit(code)


if __name__ == "__main__":
    main()
