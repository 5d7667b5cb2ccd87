"""Make Markdown of the docstrings, for the reference: examples are code, and a* is no emphasis."""

import re

import griffe

EXAMPLE = re.compile(r"(?:^ *>>> .*\n?(?:^ *\S.*\n?)*)", re.M)
STAR = re.compile(r"(?<=\b[abCL])\*")


class PlainDocstrings(griffe.Extension):
    """Rewrites each docstring when it is read; those with fences of their own keep them."""

    def on_instance(self, *, obj: griffe.Object, **kwargs) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = rewrite(obj.docstring.value)


def rewrite(text: str) -> str:
    """Put fences around the examples of a docstring, and let stars stand for themselves."""
    text = STAR.sub(r"\\*", text)
    return text if "```" in text else EXAMPLE.sub(fence, text)


def fence(example: re.Match) -> str:
    """Return an example as a block of code, as far in as it stands."""
    lines = example[0].rstrip("\n").replace("\\*", "*")
    space = " " * (len(lines) - len(lines.lstrip()))
    return f"{space}```pycon\n{lines}\n{space}```\n"
