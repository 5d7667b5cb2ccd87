"""Run a recipe: from a folder of pictures to coloured photographs, by one command.

    python scripts/recipe.py configs/small/flowers-ddpm.yaml --datasets FOLDER [--FIELD VALUE ...]

Six stages, each with a folder of its own in the recipe's `output_dir`:

    ingest    scales pictures of the data sets down, without broken ones and, among those to learn
              from, without grey and toned ones
    split     makes train, validation and test, which share no picture
    train     runs train_colorize.py, which continues where it was stopped
    evaluate  runs scripts/evaluate.py on the test pictures, and times a picture
    steps     does the same for several numbers of denoising steps, on some validation pictures
    colorize  gives a folder of photographs colours; with noise, it shows how they come about

A stage is left out where nothing that goes into it has changed since it was done: `stage.json` in
its folder holds checksums of its pictures, model and settings. What has become out of date is moved
to `old/`, never removed.
"""

from pathlib import Path

import click

EXAMPLES = Path(__file__).resolve().parents[1] / "space" / "examples"


@click.command(
    help=__doc__.replace("\n\n    ", "\n\n\b\n    "),
    context_settings={"ignore_unknown_options": True, "show_default": True},
)
@click.argument("file", metavar="CONFIG", type=click.Path(path_type=Path, exists=True))
@click.argument("fields", metavar="[--FIELD VALUE]...", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--photographs",
    default=EXAMPLES,
    show_default="those of the repository",
    type=click.Path(path_type=Path, exists=True),
    help="Folder of photographs to colorize.",
)
@click.option("--size", default=128, help="Short side of the pictures that are kept.")
@click.option(
    "--splits",
    default="train=.8,validation=.1,test=.1",
    help="Shares, or numbers, for a source that is not split into `train` and `test`.",
)
@click.option("--samples", default=4, help="Colourings of each test picture.")
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.option("--again", metavar="STAGE", help="Do this stage again, even if nothing has changed.")
def main(file, fields, until, again, **options):
    from recipes.recipe import Recipe
    from recipes.stages import run_stage

    try:
        recipe = Recipe(file, list(fields), **options)
        stages = recipe.stages()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    names = [stage.name for stage in stages]
    for name in (until, again):
        if name not in (None, *names):
            raise click.UsageError(f"There is no stage {name!r}; this recipe has {names}.")
    for stage in stages[: names.index(until) + 1 if until else None]:
        run_stage(stage, recipe.folder / stage.name, stage.name == again)


if __name__ == "__main__":
    main()
