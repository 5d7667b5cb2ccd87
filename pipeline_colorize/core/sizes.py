"""The sizes at which a picture is processed, and the steps of the second look.

torch's engine and the one without torch share these rules; they need neither.
"""

import math
from collections.abc import Iterator

# The long side of the working picture is at most this many times the short side.
LONGEST_RATIO = 8
# How many pixels each side of a picture may have: as many as a JPEG can. To bring colours up to
# full size takes memory by the side, however few pixels the picture has in all.
LARGEST_SIDE = 65_535
# The long side of a picture is at most this many times the short side, if it has more pixels than
# the second number; shorter strips cost nothing, whatever their shape.
LARGEST_RATIO, ANY_RATIO = 200, 4096
# How many pixels are worked on at a time at full size, which bounds the memory of a large picture.
CHUNK_PIXELS = 1 << 19
# The second look starts from noise at this share of the schedule.
SECOND_LOOK_START = 0.4
# The second look needs so many of the picture's own pixels along a side of each cell of chroma,
# where a cell has more working pixels than that.
ENOUGH_DETAIL = 4
# The most steps of a schedule of which a weak change of colours runs the last part.
LONGEST_SCHEDULE = 500


def check_sides(height: int, width: int) -> None:
    """Refuse a picture that is too long, or too long for its short side, with a ValueError."""
    short, long = sorted((height, width))
    if long > LARGEST_SIDE or long > max(LARGEST_RATIO * short, ANY_RATIO):
        raise ValueError(
            f"{width} x {height} is no picture's shape: each side has {LARGEST_SIDE:,} pixels at "
            f"most, and the long one {LARGEST_RATIO} times as many as the short one."
        )


def fit_size(height: int, width: int, resolution: float, multiple: int = 1) -> tuple[int, int]:
    """Scale a size so that the short side is at `resolution` and both sides are multiples.

    The aspect ratio is kept up to that rounding, and up to `LONGEST_RATIO`.

    Args:
        height: in pixels.
        width: in pixels.
        resolution: short side in pixels; 0 keeps the size of the picture.
        multiple: both sides are rounded to multiples of this number, and are at least as large.

    Returns:
        Height and width.

    >>> fit_size(768, 1024, 128, 32)
    (128, 160)
    """
    scale = 1.0
    if resolution:
        scale = min(
            resolution / min(height, width), LONGEST_RATIO * resolution / max(height, width)
        )
    height, width = (max(round(side * scale / multiple), 1) * multiple for side in (height, width))
    return height, width


def look_resolutions(
    height: int, width: int, resolution: float, second_look: float, chroma_stride: int = 1
) -> list[float]:
    """Short sides of the working pictures: one, or two where the picture has enough pixels.

    The second look may be larger than the picture, as long as each of its cells of chroma gets
    `ENOUGH_DETAIL` pixels of the picture along a side.

    Args:
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        resolution: of the first look.
        second_look: how many times as fine the second look is; 1 means that there is none.
        chroma_stride: working pixels to a cell of chroma, along a side.
    """
    finer = resolution * second_look
    least = finer * min(ENOUGH_DETAIL / chroma_stride, 1)
    again = resolution < finer and least <= min(height, width)
    return [resolution, finer] if again else [resolution]


def second_look_steps(steps: int) -> int:
    """Return the number of steps of a whole schedule, of which the second look runs the last part.

    That part begins at `SECOND_LOOK_START`.
    """
    return max(steps // 2, 3)


def look_schedule(steps: int, second_look: bool = False, strength: float = 1) -> tuple[int, float]:
    """Return the part of a schedule that a look runs through.

    A look that begins with colours which are there starts part of the way back to noise, so a
    longer schedule is taken, of which it runs the last part: four steps or more in a first look.

    Args:
        steps: that a call asks for.
        second_look: whether it is a second look, which never begins beyond `SECOND_LOOK_START`.
        strength: how far back to noise the colours that are there are brought, 0 to 1.

    Returns:
        The number of steps of the whole schedule, and the share of the noisiest timestep below
        which timesteps are run.

    >>> look_schedule(3), look_schedule(3, second_look=True), look_schedule(3, strength=0.5)
    ((3, inf), (3, 0.4), (8, 0.5625))
    """
    if second_look and strength >= SECOND_LOOK_START:
        return second_look_steps(steps), SECOND_LOOK_START
    if strength == 1:
        return steps, math.inf
    if strength == 0:
        return steps, 0.0
    taken = 1 if second_look else max(math.ceil(steps * strength), 4)
    whole = min(max(round(taken / strength), taken + 1), LONGEST_SCHEDULE)
    return whole, (taken + 0.5) / whole


def row_chunks(height: int, width: int) -> Iterator[slice]:
    """Slices of rows that hold about `CHUNK_PIXELS` pixels each."""
    rows = max(CHUNK_PIXELS // width, 1)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))
