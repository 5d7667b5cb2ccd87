# /// script
# requires-python = ">=3.11"
# dependencies = ["pipeline-colorize[remote]", "pyarrow"]
# ///
"""Colours the pictures of a data set of the Hub into another one, as a job or on any machine.

    hf jobs uv run --flavor cpu-basic --secrets HF_TOKEN \
        integrations/jobs/colorize_dataset.py USER/PHOTOGRAPHS USER/PHOTOGRAPHS-IN-COLOUR

Large sets are shared by several jobs: each gets `--shard I/N`, and writes a file of its own. A job
that is started again continues where its files are still there.
"""

import argparse
import sys

from pipeline_colorize.cli import main as colorize


def address(name: str, inner: str) -> str:
    """Return an address for a data set of the Hub; other addresses and folders as they are."""
    is_name = name.count("/") == 1 and not name.startswith((".", "/"))
    return f"hf://datasets/{name}/{inner}" if is_name else f"{name.rstrip('/')}/{inner}"


def main(arguments: list[str]) -> None:
    """Colour what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", help="USER/SET, a folder, or an address, of parquet files")
    parser.add_argument("target", help="USER/SET, a folder, or an address")
    parser.add_argument("--shard", metavar="I/N", help="take only the I-th of N parts")
    options, more = parser.parse_known_args(arguments)
    more += ["--shard", options.shard] if options.shard else []
    create(options.target)
    source = address(options.source, "**/*.parquet")
    target = address(options.target, "data/train.parquet")
    colorize([source, "--output", target, "--recolor", *more])


def create(name: str) -> None:
    """Create a data set of the Hub, if the name is one and it is not there yet."""
    if address(name, "").startswith("hf://"):
        from huggingface_hub import create_repo

        create_repo(name, repo_type="dataset", private=True, exist_ok=True)


if __name__ == "__main__":
    main(sys.argv[1:])
