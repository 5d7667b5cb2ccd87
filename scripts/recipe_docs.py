"""Write the pages of the recipes, their models in the package, and the table of all of them.

    python scripts/recipe_docs.py ship runs/faces-rgb     # its model and card, into the package
    python scripts/recipe_docs.py page runs/faces-rgb     # docs/recipes/faces-rgb.{md,json,...}
    python scripts/recipe_docs.py table                   # docs/recipes/README.md, from *.json

A run is what scripts/recipe.py leaves behind. Every figure comes from its files; what no file
says is in docs/cards/NAME.yaml. The pictures are made from photographs in the public domain.
"""

from pathlib import Path

import click

RUNS = click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))


@click.group(help=__doc__.replace("\n\n    ", "\n\n\b\n    "))
def main():
    pass


@main.command()
@RUNS
def ship(runs):
    """Put the models of RUNS into the package, with their cards."""
    from recipes import pages

    for run in runs:
        try:
            pages.ship(run, pages.MODELS / run.name)
        except ValueError as error:
            raise click.ClickException(str(error)) from error


@main.command()
@RUNS
@click.option(
    "--beside", multiple=True, metavar="WHAT=RUN", help="Another run to compare with; repeatable."
)
def page(runs, beside):
    """Write the pages of RUNS."""
    from recipes import pages

    others = {what: Path(run) for what, run in (one.split("=", 1) for one in beside)}
    for run in runs:
        click.echo(f"{pages.write_page(run, others)} is written.")


@main.command()
def table():
    """Write the table of all recipes into docs/recipes/README.md."""
    from recipes import pages

    try:
        pages.write_table()
    except ValueError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
