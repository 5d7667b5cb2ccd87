"""The machinery behind the `colorize` command."""
