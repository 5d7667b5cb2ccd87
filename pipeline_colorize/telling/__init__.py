"""Telling a model the colours: masks of things, references, colours of other answers."""
