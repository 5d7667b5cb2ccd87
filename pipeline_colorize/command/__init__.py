"""Does what the `colorize` command is asked for; the options are in `cli.py`."""
