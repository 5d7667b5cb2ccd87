"""`python -m pipeline_colorize` is `colorize`."""

from pipeline_colorize.cli import main

if __name__ == "__main__":
    main(prog_name="colorize")
