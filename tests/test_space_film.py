"""Films in the Space: what is refused, and what stops.

The endpoint and the page are in test_space.py, which has a server.
"""

import re
import sys

import numpy as np
import pytest
from space_server import ROOT
from test_video import pan, write_film

pytest.importorskip("gradio")
sys.path.insert(0, str(ROOT / "space"))
import coloring
import film
from limits import Limits


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Films, and files that are none."""
    folder = tmp_path_factory.mktemp("clips")
    write_film(folder / "sea.avi", pan(1, 8), codec="mpeg4", sound=True)
    write_film(folder / "long.mkv", pan(2, 40))
    (folder / "letter.mp4").write_text("Dear grandma, this is no film.\n" * 20)
    (folder / "empty.mp4").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def settings():
    return coloring.Settings(model="default")


def color(path, settings, folder, limits=None, wanted=lambda: True, tell=lambda *_: None):
    return film.color_clip(str(path), settings, limits or Limits(), folder, wanted, tell)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "limits", "message"),
    [
        ("sea.avi", {"max_film_seconds": 0.2}, "sea.avi is too long: films of up to 0.2 seconds"),
        ("long.mkv", {"max_film_frames": 30}, "and 30 frames can be coloured here"),
        ("long.mkv", {"max_film_seconds": 1}, "up to 1 seconds"),
        ("sea.avi", {"max_film_pixels": 6000}, "it has frames of 96 x 64 pixels; the limit is 6,0"),
        ("letter.mp4", {}, "letter.mp4 cannot be used: it cannot be read as a film"),
        ("empty.mp4", {}, "empty.mp4 cannot be used: it is empty"),
        ("gone.mp4", {}, "no longer on the server"),
    ],
)
def test_too_much_is_refused_before_it_is_decoded(
    clips, settings, tmp_path, monkeypatch, name, limits, message
):
    monkeypatch.setattr(film, "colorize_film", lambda *_: pytest.fail("it was decoded"))
    if name in ("letter.mp4", "empty.mp4"):
        monkeypatch.undo()
    with pytest.raises(coloring.Refused, match=re.escape(message)) as caught:
        color(clips / name, settings, tmp_path, Limits(**limits))
    assert str(clips) not in str(caught.value) and "\n" not in str(caught.value)


def test_large_files_are_refused(clips, settings, tmp_path):
    large = tmp_path / "large.mkv"
    large.write_bytes((clips / "long.mkv").read_bytes() + bytes(1_000_001))
    with pytest.raises(coloring.Refused, match="more than 1 MB"):
        color(large, settings, tmp_path, Limits(max_mb=1))


def test_a_film_stops_when_nobody_waits(clips, settings, tmp_path, monkeypatch):
    calls = []

    def keyframe(light, *_):
        calls.append(light)
        return np.zeros((2, light.shape[0] // 4, light.shape[1] // 4), np.float32)

    monkeypatch.setattr(film, "color_keyframe", keyframe)
    with pytest.raises(coloring.Refused, match="Nobody waits"):
        color(clips / "long.mkv", settings, tmp_path, wanted=lambda: not calls)
    assert len(calls) == 1 and not list(tmp_path.glob("*.mp4"))
