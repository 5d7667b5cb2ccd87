"""Make, check and publish releases of models, and the Space beside them.

    python scripts/release.py card runs/mine/model --notes notes.yaml --evaluation runs/evaluation
    python scripts/release.py build runs/mine/model release
    python scripts/release.py check release
    python scripts/release.py push runs/mine/model --repo-id user/name --tag v1.0

`push` builds and checks by itself; what does not pass the check does not go up. The token is that
of HF_TOKEN or `hf auth login`. docs/releasing.md describes the whole way.
"""

import dataclasses
import tempfile
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
SHARD = click.option(
    "--max-shard-size", default="5GB", show_default=True, help="Larger weights get several files."
)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group(help=__doc__.replace("\n\n    ", "\n\n\b\n    "))
def main():
    from diffusers.utils import logging

    logging.disable_progress_bar()


def call(function, *arguments):
    """Call a function, with its errors as messages for people."""
    try:
        return function(*arguments)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None


def require(problems: list[str]) -> None:
    """Stop where a check has found something."""
    if problems:
        lines = "".join(f"\n- {problem}" for problem in problems)
        raise click.ClickException(f"this is no release:{lines}")


@main.command()
@click.argument("model", type=FOLDER)
@click.option(
    "--notes",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="YAML file with name, summary, license, datasets, training_data, recipe, limits and "
    "previews (photograph: caption).",
)
@click.option(
    "--evaluation",
    type=click.Path(exists=True, path_type=Path),
    help="Folder that scripts/evaluate.py wrote.",
)
def card(model, notes, evaluation):
    """Write the card of the folder MODEL, with previews, LICENSE and evaluation.json."""
    from releasing.card import write_card

    call(write_card, model, notes, evaluation)
    click.echo(f"{model / 'README.md'} is written.")


@main.command()
@click.argument("model")
@click.argument("folder", type=click.Path(path_type=Path))
@SHARD
def build(model, folder, max_shard_size):
    """Make FOLDER, a release of MODEL: a folder, or a model that ships."""
    from releasing.building import build_release

    if folder.exists():
        raise click.ClickException(f"{folder} exists already.")
    call(build_release, model, folder, None, max_shard_size)
    click.echo(f"{folder} is written; `release.py check {folder}` says whether it may go up.")


@main.command()
@click.argument("folder", type=FOLDER)
def check(folder):
    """Say whether FOLDER is fit to be published."""
    from releasing.checks import check_release

    require(check_release(folder))
    click.echo(f"{folder} is fit to be published.")


@main.command()
@click.argument("model")
@click.option(
    "--repo-id", required=True, metavar="USER/NAME", help="Name of the repository on the Hub."
)
@click.option("--tag", help="Name of the version, such as v1.0; it can be loaded by that for ever.")
@click.option("--private", is_flag=True, help="If the repository is made for this: private.")
@click.option(
    "--space",
    is_flag=False,
    flag_value="",
    metavar="[USER/NAME]",
    help="Also publish the demo, as a Space of that name, or else of the same.",
)
@SHARD
def push(model, repo_id, tag, private, space, max_shard_size):
    """Publish MODEL: a folder, or a model that ships.

    In one commit, after the check; doing it again changes nothing.
    """
    from pipeline_colorize.hub import PublishOptions, full_name
    from pipeline_colorize.registry import is_shipped
    from releasing.building import build_release, build_space
    from releasing.checks import check_release

    options = PublishOptions(private=private or None, replace=("*",))
    with tempfile.TemporaryDirectory() as temporary:
        release, demo = Path(temporary, "release"), Path(temporary, "space")
        sdk = None if space is None else call(build_space, ROOT / "space", demo)
        repo_id = call(full_name, repo_id)  # a wrong token shows at once
        call(build_release, model, release, repo_id, max_shard_size)
        require(check_release(release))
        place = publish(release, repo_id, dataclasses.replace(options, tag=tag))
        if space is not None:
            if not is_shipped(model):  # else it is in the package already
                (demo / "model.txt").write_text(place + "\n", "utf-8")
            options = dataclasses.replace(options, repo_type="space", space_sdk=sdk)
            publish(demo, call(full_name, space or repo_id), options)


def publish(folder: Path, repo_id: str, options) -> str:
    """Bring a folder to the Hub and say so; returns "user/name@commit"."""
    from pipeline_colorize import hub

    message = f"Release {options.tag}" if options.tag else "Release"
    place, new = call(hub.publish, folder, repo_id, message, options)
    done = "is published" if new else "was there already; nothing has changed"
    click.echo(f"{options.repo_type} {place} {done}.")
    return place


if __name__ == "__main__":
    main()
