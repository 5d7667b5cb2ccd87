"""Make a data set of colour and grey squares for training, and say what was left out.

    python scripts/prepare_dataset.py korexyz/celeba-hq-256x256 celeba-128
    python scripts/prepare_dataset.py ~/photographs mine --splits train=.9,validation=.05,test=.05

Corrupt, grey and toned pictures and duplicates are left out.
"""

from pathlib import Path

import click


@click.command(context_settings={"show_default": True})
@click.argument("source")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--size", default=128, help="Side of the squares, in pixels.")
@click.option(
    "--splits",
    default="train=28000,validation=1000,test=1000",
    help="Numbers of pictures, or shares up to 1.",
)
@click.option("--keep-splits", is_flag=True, help="Keep the splits of the source.")
@click.option(
    "--drop-leaks", is_flag=True, help="With --keep-splits: leave out what stands in two splits."
)
@click.option(
    "--distance",
    default=2,
    type=click.IntRange(0, 2),
    help="Bits of the dHash in which duplicates may differ.",
)
@click.option("--column", default="image", help="Name of the column that holds the pictures.")
@click.option("--seed", default=0, help="Seed of the random split.")
@click.option("--push-to-hub", metavar="USER/NAME", help="Publish the data set under this name.")
@click.option("--private", is_flag=True, help="Make that repository private.")
def main(source, output, push_to_hub, private, **options):
    """Make OUTPUT, a folder of colour and grey pairs, from SOURCE: a Hub data set or a folder.

    Corrupt, grey and toned (sepia) pictures and duplicates are left out and listed in
    OUTPUT/report.json. A source whose splits share pictures is refused.
    """
    if output.exists():
        raise click.UsageError(f"{output} exists already.")
    from pipeline_colorize.training.pairs import PairOptions, make_pairs

    try:
        click.echo(make_pairs(source, output, PairOptions(**options)))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if push_to_hub:
        click.echo(f"Published: {publish_pairs(output, push_to_hub, private)}.")


def publish_pairs(folder: Path, repo_id: str, private: bool) -> str:
    """Publish a data set; returns "user/name@commit"."""
    from pipeline_colorize.hub import PublishOptions, publish

    options = PublishOptions(
        repo_type="dataset", private=private or None, skip=("report.json",), replace=("*",)
    )
    try:
        return publish(folder, repo_id, "Upload pairs", options)[0]
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{folder} is written, but {error}") from None


if __name__ == "__main__":
    main()
