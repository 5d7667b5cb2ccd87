"""Reads pictures from parquet files, the format of data sets on the Hub, a few at a time.

pyarrow is imported when it is needed: whoever colorizes files does without it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .places import is_remote, open_remote

SUFFIX = ".parquet"
_ROWS = 16  # taken out of a row group at a time


class ParquetError(Exception):
    """Says in one line for people why a file cannot be used as a data set of pictures."""


@dataclass(frozen=True)
class PictureColumn:
    """Names the column of a parquet file that holds its pictures."""

    path: Path
    column: str  # of encoded files, with a dot where it is part of another
    rows: int


def find_pictures(path: Path) -> PictureColumn | None:
    """Find the column of pictures in a parquet file by its footer; `None` if there is none.

    A column that its `datasets` features call an Image; where these are not there, the first one of
    bytes, or of a structure that holds `bytes`. Raises ParquetError where the file, or the package
    that reads it, is missing or broken.
    """
    with _open(path) as file:
        columns = [name for name in map(_bytes_of, file.schema_arrow) if name]
        features = _features(file.schema_arrow.metadata)
        if features is not None:
            images = {name for name, kind in features.items() if _is_image(kind)}
            columns = [name for name in columns if name.partition(".")[0] in images]
        return PictureColumn(path, columns[0], file.metadata.num_rows) if columns else None


def read_rows(path: Path, wanted: list[int]) -> Iterator[bytes | None]:
    """Yield the encoded pictures of ascending rows; `None` for a row without a picture.

    Row groups without a wanted row are not read. Memory holds one row group's column at most.
    """
    pictures = find_pictures(path)
    if pictures is None:
        raise ParquetError("no column of this data set holds pictures")
    with _open(path) as file:
        first, position = 0, 0
        for group in range(file.num_row_groups):
            last = first + file.metadata.row_group(group).num_rows
            end = position
            while end < len(wanted) and wanted[end] < last:
                end += 1
            if end > position:
                rows = {row - first for row in wanted[position:end]}
                yield from _read_group(file, group, pictures.column, rows)
            first, position = last, end


def _read_group(file, group: int, column: str, rows: set[int]) -> Iterator[bytes | None]:
    number = 0
    for batch in file.iter_batches(_ROWS, [group], [column]):
        values = batch.column(0)
        for name in column.split(".")[1:]:
            values = values.field(name)
        for value in values:
            if number in rows:
                yield value.as_py()
            number += 1


def _open(path: Path):
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise ParquetError("a data set takes the package pyarrow; pip install pyarrow") from None
    try:
        return ParquetFile(open_remote(path) if is_remote(path) else path)
    except pyarrow.ArrowInvalid:
        raise ParquetError("not a parquet file, or one that was cut off") from None
    except OSError as error:
        raise ParquetError(f"cannot be read ({error.strerror or error})") from None


def _bytes_of(field) -> str | None:
    """Return the dotted name under which a column holds bytes, if it does."""
    from pyarrow import types

    def is_bytes(kind) -> bool:
        return types.is_binary(kind) or types.is_large_binary(kind)

    if is_bytes(field.type):
        return field.name
    if types.is_struct(field.type):
        inner = field.type.get_field_index("bytes")
        if inner >= 0 and is_bytes(field.type.field(inner).type):
            return f"{field.name}.bytes"
    return None


def _features(metadata: dict[bytes, bytes] | None) -> dict | None:
    """Return the description of the columns that `datasets` wrote."""
    text = (metadata or {}).get(b"huggingface")
    return json.loads(text).get("info", {}).get("features") if text else None


def _is_image(feature) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == "Image"
