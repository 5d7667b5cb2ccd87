"""Pictures in a column of a data set, as the library `datasets` hands them out undecoded."""

import io
import os

from PIL import Image

from .opening import open_picture


def open_record(record: dict) -> Image.Image:
    """Open an undecoded picture of `datasets` with Pillow, not yet turned upright.

    Args:
        record: its `bytes`, or where these are `None`, its `path`.

    Raises:
        OSError: if it is no readable picture.
    """
    content, path = record["bytes"], record["path"]
    if content is None and not os.path.isfile(path):  # a pipe would be waited for without end
        raise FileNotFoundError(f"{path} is no file.")
    return open_picture(path if content is None else io.BytesIO(content))
