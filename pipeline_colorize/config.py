"""Configuration of the scripts: dataclasses from a YAML file, with flags over it.

Names that do not exist are refused with the nearest one that does, before anything is done.
"""

import dataclasses
import difflib
import inspect
from pathlib import Path
from typing import get_args, get_type_hints

import yaml


def option(default, help: str):
    """A dataclass field with its help text; lists and dicts are copied for each instance."""
    metadata = {"help": help}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def refuse_unknown(names, valid, where: str) -> None:
    """Raise a ValueError that gives, for the first name not in `valid`, the nearest valid one."""
    for name in names:
        if name not in valid:
            near = difflib.get_close_matches(name, valid, 1, 0.0)
            raise ValueError(f"{where} has no {name!r}; did you mean {near[0]!r}?")


def _group(tokens: list[str]) -> dict[str, object]:
    """["--a.b", "1", "2", "--c=x"] to {"a.b": [1, 2], "c": "x"}; values are read as YAML."""
    groups = {}
    for token in tokens:
        if token.startswith("--"):
            name, _, value = token[2:].partition("=")
            values = groups[name] = [yaml.safe_load(value)] if value else []
        elif not groups:
            raise ValueError(f"Unexpected {token!r} on the command line; fields start with `--`.")
        else:
            values.append(yaml.safe_load(token))
    return {name: values[0] if len(values) == 1 else values for name, values in groups.items()}


def parse(argv: list[str], parts: list[type], description: str) -> list:
    """One instance of each dataclass in `parts`, from `--config FILE` and the flags after it.

    The file is flat: it does not know of the parts. A field of type dict is a mapping in the file
    and `--FIELD.KEY VALUE` on the command line.

    Args:
        argv: the command line without the program's name.
        parts: dataclasses whose fields are made by `option`.
        description: for `--help`.

    Raises:
        ValueError: for an unknown field in the file or on the command line, with the nearest one.
    """
    from transformers import HfArgumentParser

    usage = "%(prog)s [--config FILE] [--FIELD VALUE ...]"
    parser = HfArgumentParser(parts, allow_abbrev=False, description=description, usage=usage)
    parser.add_argument("--config", metavar="FILE", help="YAML file; flags go over it")
    fields = {field.name: field for part in parts for field in dataclasses.fields(part)}
    known, _ = parser.parse_known_args(argv)
    content = {}
    if known.config:
        content = yaml.safe_load(Path(known.config).read_text(encoding="utf-8")) or {}
    refuse_unknown(content, list(fields), f"{known.config}")
    _refuse_wrong_nulls(content, parts)
    parser.set_defaults(**{name: None for name, value in content.items() if value is None})
    nested = {name: {} for name, field in fields.items() if field.type is dict}
    nested |= {name: content.pop(name) or {} for name in nested if name in content}
    *configs, _, rest = parser.parse_args_into_dataclasses(
        _as_flags(content) + argv, return_remaining_strings=True, look_for_args_file=False
    )
    for name, value in _group(rest).items():
        field, _, key = name.partition(".")
        refuse_unknown([field], list(nested) if key else list(fields), "The command line")
        nested[field][key] = value
    for config in configs:
        for name in nested.keys() & {field.name for field in dataclasses.fields(config)}:
            setattr(config, name, nested[name])
    return configs


def _refuse_wrong_nulls(content: dict, parts: list[type]) -> None:
    hints = {name: hint for part in parts for name, hint in get_type_hints(part).items()}
    for name, value in content.items():
        if value is None and hints[name] is not dict and type(None) not in get_args(hints[name]):
            raise ValueError(f"`{name}` has no value; it needs one of type {hints[name]}.")


def _as_flags(content: dict) -> list[str]:
    """A file's content as flags, so that its values are checked as those of the command line."""
    flags = []
    for name, value in content.items():
        values = value if isinstance(value, list) else [value]
        if value is not None and value != []:
            flags += [f"--{name}", *map(str, values)]
    return flags


def to_yaml(configs: list) -> str:
    """All fields of the dataclasses as one flat file that `parse` reads."""
    flat = {}
    for config in configs:
        flat |= dataclasses.asdict(config)
    return yaml.safe_dump(flat, sort_keys=False)


def construct(class_name: str, arguments: dict, modules: list):
    """An object of the class of that name in the first module that has it.

    Raises:
        ValueError: for an unknown class or argument, with the nearest argument.
    """
    for module in modules:
        if hasattr(module, class_name):
            chosen = getattr(module, class_name)
            refuse_unknown(arguments, list(inspect.signature(chosen).parameters), class_name)
            return chosen(**arguments)
    names = ", ".join(module.__name__ for module in modules)
    raise ValueError(f"There is no class {class_name!r} in {names}.")
