"""Chroma files: colours apart from their photograph, laid over masters of any size."""

import json
import tracemalloc

import numpy as np
import pytest
import tifffile
from command_run import run
from conftest import smooth_picture
from PIL import Image, PngImagePlugin

from pipeline_colorize import ORTColorizationPipeline, apply_chroma, photo, read_chroma
from pipeline_colorize.archive.chroma import Chroma, Fingerprint, write_chroma
from pipeline_colorize.archive.masters import color_master
from pipeline_colorize.core.luminance import to_luminance
from pipeline_colorize.onnx.noise import TorchGenerator

QUICK = {"num_inference_steps": 1, "num_candidates": 1, "second_look": 1}
OPTIONS = ("--steps", "1", "--candidates", "1", "--second-look", "1")


def grey(height, width, kind=np.uint8, seed=0):
    """A grey picture with smooth patches and hard edges."""
    rgb = smooth_picture(height, width, seed).numpy().mean(axis=0)
    if np.dtype(kind).kind == "f":
        return rgb.astype(kind)
    return np.rint(rgb * np.iinfo(kind).max).astype(kind)


def colors_of(picture, box=None, seed=0, cells=(16, 20)):
    """Lively colours for a picture, without a model."""
    light = to_luminance(picture)
    ab = np.random.default_rng(seed).normal(0, 40, (2, *cells)).astype(np.float32)
    return Chroma(
        ab, light.shape, box or (0, light.shape[0], 0, light.shape[1]), Fingerprint.of(light)
    )


@pytest.fixture(scope="module")
def engine():
    """The model that ships."""
    return ORTColorizationPipeline.from_pretrained("default")


@pytest.fixture
def files(tmp_path):
    """A photograph, and a master of it with four times the side and 16 bits."""
    small = grey(96, 128)
    Image.fromarray(small).save(tmp_path / "photo.png")
    # Each pixel is doubled twice, so that light and shape are the same.
    master = small.repeat(4, 0).repeat(4, 1).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "master.tif", master, compression="zlib", rowsperstrip=7)
    return tmp_path


# --- colours at full size ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_the_colours_are_those_of_the_engine(engine, kind):
    picture = grey(150, 200, kind)
    options = {"find_margins": False, **QUICK}
    (wanted,) = engine(
        picture, generator=TorchGenerator().manual_seed(1), output_type="np", **options
    ).images
    (ab,) = engine(
        picture, generator=TorchGenerator().manual_seed(1), output_type="latent", **options
    ).images
    light = to_luminance(picture)
    chroma = Chroma(ab, light.shape, (0, 150, 0, 200), Fingerprint.of(light))
    found = apply_chroma(picture, chroma)
    assert found.dtype == kind
    scale = 1 if kind == np.float32 else np.iinfo(kind).max
    np.testing.assert_allclose(found / scale, wanted, atol=1e-4 + 0.51 / max(scale, 255))


@pytest.mark.parametrize("box", [(0, 0, 83, 61), (83, 61, 200, 150), (7, 149, 8, 150)])
@pytest.mark.parametrize("shape", [(150, 200), (150, 200, 3)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_tiles_equal_the_same_parts_of_the_whole_to_the_bit(box, shape, kind):
    picture = grey(150, 200, kind)
    if len(shape) == 3:
        picture = np.stack([picture, picture[::-1], picture[:, ::-1]], axis=-1)
    chroma = colors_of(picture, box=(11, 140, 0, 190))
    whole = apply_chroma(picture, chroma)
    left, top, right, bottom = box
    np.testing.assert_array_equal(apply_chroma(picture, chroma, box), whole[top:bottom, left:right])


def test_a_server_needs_a_tile_and_a_small_guide_alone():
    picture = grey(300, 400)
    chroma, guide = colors_of(picture), np.asarray(Image.fromarray(picture).resize((100, 75)))
    options = {"size": (400, 300), "guide": guide}
    whole = apply_chroma(picture, chroma, (0, 0, 400, 300), **options)
    for left, top in ((0, 0), (200, 0), (0, 150), (200, 150)):
        box = (left, top, left + 200, top + 150)
        tile = picture[top : top + 150, left : left + 200]
        found = apply_chroma(tile, chroma, box, **options)
        np.testing.assert_array_equal(found, whole[top : top + 150, left : left + 200])
    difference = np.abs(whole.astype(int) - apply_chroma(picture, chroma)).mean()
    assert difference < 2  # the guide stands for the whole


def test_light_is_kept_and_margins_stay_neutral():
    picture = grey(120, 160, np.uint16)
    result = apply_chroma(picture, colors_of(picture, box=(20, 100, 30, 130)))
    np.testing.assert_allclose(to_luminance(result), to_luminance(picture), atol=0.01)
    spread = np.ptp(result.astype(int), axis=2)
    assert spread[:20].max() == spread[:, 130:].max() == 0
    assert spread[20:100, 30:130].mean() > 1000


def test_pil_in_and_out_and_what_is_wrong():
    picture = Image.fromarray(grey(60, 80))
    chroma = colors_of(np.asarray(picture))
    assert apply_chroma(picture, chroma, (8, 8, 40, 20)).size == (32, 12)
    with pytest.raises(ValueError, match="does not lie"):
        apply_chroma(picture, chroma, (0, 0, 81, 60))
    with pytest.raises(ValueError, match="give both"):
        apply_chroma(picture, chroma, size=(80, 60))
    with pytest.raises(ValueError, match="same tile"):
        apply_chroma(picture, chroma, (0, 0, 9, 9), size=(80, 60), guide=picture)
    with pytest.raises(ValueError, match="another shape"):
        apply_chroma(picture.resize((80, 40)), chroma)
    with pytest.raises(ValueError, match="another photograph"):
        apply_chroma(Image.fromarray(255 - np.asarray(picture)), chroma)


# --- the file ------------------------------------------------------------------------------------


def test_a_file_keeps_the_colours(tmp_path):
    chroma = colors_of(grey(60, 80), box=(1, 59, 2, 80))
    write_chroma(tmp_path / "a.chroma.png", chroma)
    found = read_chroma(tmp_path / "a.chroma.png")
    np.testing.assert_allclose(found.ab, chroma.ab, atol=0.032)
    assert (found.size, found.box) == (chroma.size, chroma.box)
    assert found.light.digest == chroma.light.digest


@pytest.mark.parametrize("damage", ["other", "later", "box", "cut", "text"])
def test_other_and_damaged_files_are_refused(tmp_path, damage):
    path = tmp_path / "a.chroma.png"
    write_chroma(path, colors_of(grey(60, 80)))
    with Image.open(path) as opened:
        [(key, text)] = opened.text.items()
        pixels = opened.copy()
    said, info = json.loads(text), PngImagePlugin.PngInfo()
    said |= {"later": {"format": 9}, "box": {"box": [0, 99, 0, 80]}}.get(damage, {})
    if damage != "other":
        info.add_text(key, "{" if damage == "text" else json.dumps(said))
    pixels.save(path, pnginfo=info)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(photo.PhotoError):
        read_chroma(path)


# --- masters -------------------------------------------------------------------------------------


def kinds_of_masters():
    """TIFF files of many kinds, each as options of `tifffile.imwrite` and a picture."""
    deep, rgb = grey(90, 120, np.uint16), np.stack([grey(90, 120, np.uint16, n) for n in range(3)])
    rgba = np.stack([*rgb, grey(90, 120, np.uint16, 5)], axis=-1)
    plain = {"photometric": "minisblack"}
    return {
        "strips": (deep, {**plain, "compression": "zlib", "rowsperstrip": 7, "predictor": True}),
        "one strip": (deep, {**plain, "rowsperstrip": 90}),
        "big-endian": (deep, {**plain, "byteorder": ">"}),
        "tiles": (deep, {**plain, "tile": (32, 48), "compression": "lzw"}),
        "8 bits": (grey(90, 120), plain),
        "inverted": (deep, {"photometric": "miniswhite", "compression": "zlib"}),
        "rgb": (rgb.transpose(1, 2, 0), {"photometric": "rgb", "tile": (32, 32)}),
        "planes": (rgb, {"photometric": "rgb", "planarconfig": "separate"}),
        "alpha": (rgba, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        "turned": (deep, {**plain, "extratags": [(274, 3, 1, 6, True)]}),
        "float": (grey(90, 120, np.float32), plain),
    }


@pytest.mark.parametrize("kind", kinds_of_masters())
def test_strips_are_what_reading_the_whole_gives(tmp_path, kind):
    pixels, options = kinds_of_masters()[kind]
    path, result = tmp_path / "master.tif", tmp_path / "result.tif"
    tifffile.imwrite(path, pixels, **options)
    whole = photo.read(path)
    strips = list(photo.StripReader(path))
    np.testing.assert_array_equal(np.concatenate([one.image for one in strips]), whole.image)
    if whole.alpha is not None:
        np.testing.assert_array_equal(np.concatenate([one.alpha for one in strips]), whole.alpha)
    chroma = colors_of(whole.image)
    color_master(path, result, chroma)
    found, wanted = tifffile.imread(result), apply_chroma(whole.image, chroma)
    if whole.image.dtype != np.float32:
        np.testing.assert_array_equal(found[..., :3], wanted)
    assert found.dtype == (np.uint8 if kind == "8 bits" else np.uint16)
    assert (found.shape[2] == 4) == (whole.alpha is not None)
    assert photo.read_mark(photo.read(result).xmp)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_master(tmp_path):
    peaks = []
    for rows in (1500, 6000):
        master = np.zeros((rows, 2000), np.uint16)
        master[::50] = 40000
        tifffile.imwrite(tmp_path / "master.tif", master, compression="zlib", rowsperstrip=16)
        chroma = colors_of(master)
        tracemalloc.start()
        color_master(tmp_path / "master.tif", tmp_path / "result.tif", chroma)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 12e6  # of 54 MB that the larger result has more


# --- the command ---------------------------------------------------------------------------------


def test_colours_alone_and_over_the_master(files):
    result = run(files / "photo.png", "--chroma-only", *OPTIONS)
    assert result.exit_code == 0, result.output
    chroma_file = files / "photo.chroma.png"
    assert chroma_file.stat().st_size < 8_000
    chroma = read_chroma(chroma_file)
    assert chroma.settings["seed"] == 0 and chroma.settings["model"] == "default"

    result = run(files / "master.tif", "--chroma", chroma_file, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["status"] == "colorized" and said["seed"] == 0
    found = tifffile.imread(files / "master-colorized.tif")
    master = tifffile.imread(files / "master.tif")
    np.testing.assert_array_equal(found, apply_chroma(master, chroma_file))
    assert found.dtype == np.uint16
    again = run(files / "master.tif", "--chroma", chroma_file)
    assert "1 done already" in again.stderr


def test_a_photograph_has_the_same_colours_either_way(files):
    run(files / "photo.png", "-o", files / "direct.png", *OPTIONS)
    run(files / "photo.png", "--chroma-only", *OPTIONS)
    result = run(
        files / "photo.png", "-o", files / "laid.png", "--chroma", files / "photo.chroma.png"
    )
    assert result.exit_code == 0, result.output
    direct, laid = (np.asarray(Image.open(files / name)) for name in ("direct.png", "laid.png"))
    assert np.abs(direct.astype(int) - laid).max() <= 1


def test_a_folder_of_masters_finds_its_colours_by_name(files):
    masters = files / "masters"
    masters.mkdir()
    for name in ("photo", "other"):
        (masters / f"{name}.tif").write_bytes((files / "master.tif").read_bytes())
    run(files / "photo.png", "--chroma-only", "-o", files / "colours/", *OPTIONS)
    result = run(masters, "--chroma", files / "colours", "-o", files / "out")
    assert result.exit_code == 1
    assert "there is no" in result.stderr and "other.chroma.png" in result.stderr
    assert [path.name for path in (files / "out").iterdir()] == ["photo.tif"]


def test_several_answers_and_streams(files):
    run(files / "photo.png", "--chroma-only", "--samples", "2", *OPTIONS)
    assert read_chroma(files / "photo-2.chroma.png").settings["sample"] == "2 of 2"
    data = (files / "photo.png").read_bytes()
    chroma = run("-", "--chroma-only", *OPTIONS, stdin=data)
    (files / "stream.chroma.png").write_bytes(chroma.stdout_bytes)
    result = run("-", "--chroma", files / "stream.chroma.png", stdin=data)
    assert result.stdout_bytes.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "options, reason",
    [
        (("--chroma-only", "--chroma", "photo.png"), "reads them"),
        (("--chroma-only", "--compare"), "no other pictures"),
        (("--chroma", "photo.png", "--samples", "2"), "as they are"),
        (("--chroma", "nowhere"), "no such file"),
        (("--chroma-only", "-o", "a.jpg"), "a chroma file is a PNG"),
    ],
)
def test_options_that_do_not_fit(files, monkeypatch, options, reason):
    monkeypatch.chdir(files)
    result = run("photo.png", *options)
    assert result.exit_code == 2 and reason in " ".join(result.stderr.split())


def test_colours_of_another_photograph_fail_alone(files):
    Image.fromarray(255 - grey(96, 128)).save(files / "negative.png")
    run(files / "photo.png", "--chroma-only", *OPTIONS)
    result = run(files / "negative.png", "--chroma", files / "photo.chroma.png")
    assert result.exit_code == 1 and "another photograph" in result.stderr
    assert not (files / "negative-colorized.png").exists()
