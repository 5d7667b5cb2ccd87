"""Make training sets of 256 pixels from public collections of photographs.

The collections are Git repositories; configs/data/pictures.yaml lists them, with their terms as far
as they are known. Clone those that you want into FOLDER/OWNER/NAME (or, to save half of the space,
with `git clone --bare --depth 1` into FOLDER/OWNER/NAME.git), and then

    python scripts/collect_pictures.py FOLDER ~/data256 --apart ~/data/faces --apart ~/data/scenes

Pictures that are broken, small, grey, toned, drawn or cut out on white are left out and listed. So
is whatever is nearly the same as a validation or test picture of the sets kept `--apart`.
"""

from pathlib import Path

import click

TABLE = Path(__file__).parents[1] / "configs" / "data" / "pictures.yaml"
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(context_settings={"show_default": True})
@click.argument("clones", type=FOLDER)
@click.argument("output", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--apart",
    multiple=True,
    type=FOLDER,
    help="A data set, or a folder of pictures: leave out what is like its validation and test "
    "pictures; repeatable.",
)
@click.option(
    "--seen",
    multiple=True,
    type=FOLDER,
    help="A data set that is trained on as well: hold out nothing that is like its training "
    "pictures; repeatable.",
)
@click.option("--only", multiple=True, help="Name of a collection to be taken alone; repeatable.")
@click.option("--free", is_flag=True, help="Keep only pictures whose terms allow any use.")
@click.option(
    "--table",
    default=TABLE,
    show_default="configs/data/pictures.yaml",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The file that lists the collections.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=2,
    help="Processes that read the clones, each one collection at a time.",
)
def main(clones, output, **options):
    """Make training sets in OUTPUT from the collections whose clones are in CLONES.

    OUTPUT/collections keeps the clean pictures of each collection and a list of those left out, so
    that a later call adds collections without reading the others again.
    """
    import torch

    from pipeline_colorize.training.collecting import SPLITS, CollectingOptions, make_sets

    torch.set_num_threads(1)  # several would wait for one another on pictures this small
    try:
        sets = make_sets(clones, output, CollectingOptions(**options))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    for name, counts in sets.items():
        numbers = ", ".join(f"{counts[split]:,} {split}" for split in SPLITS if split in counts)
        click.echo(f"{name}: {numbers}")


if __name__ == "__main__":
    main()
