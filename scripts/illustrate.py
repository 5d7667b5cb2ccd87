"""Draw the pictures of the documentation: sheets of results, and screenshots.

    python scripts/illustrate.py sheets --photographs FOLDER --color FOLDER --large FILE
    python scripts/illustrate.py screenshots browser --output FOLDER
    python scripts/illustrate.py states space --output FOLDER

Only pictures in the public domain or under free licences belong into the documentation.
"""

from pathlib import Path

import click

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.group(help=__doc__.replace("\n\n    ", "\n\n\b\n    "))
def main():
    pass


@main.command()
@click.option("--photographs", type=FOLDER, help="Folder of black-and-white photographs.")
@click.option("--color", type=FOLDER, help="Folder of colour pictures.")
@click.option(
    "--old-color", type=FOLDER, help="Folder of old colour photographs: three answers and truth."
)
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Draw each so many of the old colour photographs.",
)
@click.option(
    "--large",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Large colour picture; repeatable.",
)
@click.option(
    "--megapixels", default=12.0, show_default=True, help="Largest size of the large pictures."
)
@click.option(
    "--model",
    default="default",
    show_default=True,
    help="Name of a model that ships, a folder or a repository of the Hub.",
)
@click.option(
    "--seed", "seeds", multiple=True, default=(0, 1, 2), show_default=True, help="Repeatable."
)
@click.option(
    "--output",
    default="docs/sheets",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the sheets.",
)
def sheets(**options):
    """Draw sheets that show what a model does, as pages of JPEG.

    Black-and-white photographs stand beside their colours by several seeds; colour pictures beside
    their grey and the colours that the model gives to that; of large pictures, there are crops at
    100 %, from where the true colours have their edges. All by the model's default settings.
    """
    from illustrations.sheets import SheetOptions, draw

    try:
        draw(SheetOptions(**options))
    except ValueError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.argument("what", nargs=-1, type=click.Choice(["space", "browser"]))
@click.option(
    "--output",
    default=IMAGES,
    show_default="docs/images",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the pictures.",
)
def screenshots(what, output):
    """Take pictures of the Space and of the page without a server, or of one of them.

    Starts what it shows and opens it in a headless Chromium (extras `test` and `onnx`, and a
    browser).
    """
    from illustrations.screenshots import TAKES, take

    take(list(what or TAKES), output)


@main.command()
@click.argument("engine", type=click.Choice(["space", "browser"]))
@click.option("--output", required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--only", multiple=True, help="Name of a state, such as 15-doubt; repeatable.")
def states(engine, output, only):
    """Draw every state of the page on three widths, in light and dark, to look at each of them.

    The PNG files are called after state, width and scheme. Takes what `screenshots` takes.
    """
    from illustrations.states import take

    take(engine, output, only)


if __name__ == "__main__":
    main()
