"""What is hidden under alpha decides no colours, in any engine and by every way in."""

import io

import numpy as np
import pytest
import torch
from command_run import run
from conftest import smooth_picture, tiny_unet
from PIL import Image, ImageDraw
from skimage.color import rgb2lab

from pipeline_colorize import ColorizationPipeline, OffsetCosineScheduler, photo
from pipeline_colorize.core.transparency import see_light
from pipeline_colorize.onnx.graph import write_model
from pipeline_colorize.onnx.noise import TorchGenerator
from pipeline_colorize.onnx.runtime import ORTColorizationPipeline
from pipeline_colorize.training.decoding import decode

SIZE = (64, 80)  # height and width
HIDDEN = [0, 128, 255, "noise"]


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """Torch's pipeline and the one without torch, each as a function of picture and options."""
    folder = tmp_path_factory.mktemp("model")
    pipe = ColorizationPipeline(
        tiny_unet("hints"),
        OffsetCosineScheduler(prediction_type="sample"),
        default_num_inference_steps=2,
        default_processing_resolution=32,
        default_second_look=1.5,
    )
    pipe.save_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    write_model(folder, folder / "full.onnx", "fp32")
    ort = ORTColorizationPipeline(folder / "full.onnx")
    return {
        "torch": lambda image, **o: pipe(image, generator=torch.manual_seed(0), **o),
        "onnx": lambda image, **o: ort(image, generator=TorchGenerator().manual_seed(0), **o),
    }


def gray() -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 12, SIZE)
    pixels = smooth_picture(*SIZE)[1].numpy() * 150 + 50 + noise
    return pixels.clip(30, 220).astype(np.uint8)


def cut_out() -> np.ndarray:
    """An alpha of 0 around an ellipse, with a hole in it."""
    mask = Image.new("L", SIZE[::-1], 0)
    ImageDraw.Draw(mask).ellipse((12, 6, 66, 58), fill=255)
    ImageDraw.Draw(mask).rectangle((30, 20, 40, 30), fill=0)
    return np.array(mask)


def hide(pixels: np.ndarray, alpha: np.ndarray, hidden) -> np.ndarray:
    if hidden == "noise":
        hidden = np.random.default_rng(1).integers(0, 256, pixels.shape)
    return np.where(alpha == 0, hidden, pixels).astype(np.uint8)


def as_palette(pixels: np.ndarray, alpha: np.ndarray) -> Image.Image:
    """With one transparent place in the palette, whose colour is what is hidden."""
    hidden = int(np.median(pixels[alpha == 0]))
    palette = Image.fromarray(np.where(alpha == 0, 255, np.minimum(pixels, 254))).convert("P")
    palette.putpalette([v for level in range(255) for v in [level] * 3] + [hidden] * 3)
    palette.info["transparency"] = 255
    return palette


def as_premultiplied(pixels, alpha):
    return Image.merge("LA", [Image.fromarray(pixels), Image.fromarray(alpha)]).convert("La")


def as_palette_with_alpha(pixels, alpha):
    image = Image.fromarray(pixels).convert("P")
    image.putalpha(Image.fromarray(alpha))
    assert image.mode == "PA"
    return image


def as_png_with_key(pixels, alpha):
    """RGB whose transparent colour is one that is nowhere else."""
    rgb = np.stack([pixels] * 3, 2)
    rgb[alpha == 0] = (1, 2, 3)
    image = Image.fromarray(rgb)
    image.info["transparency"] = (1, 2, 3)
    return image


KINDS = {
    "LA": lambda p, a: Image.merge("LA", [Image.fromarray(p), Image.fromarray(a)]),
    "RGBA": lambda p, a: Image.merge("RGBA", [*[Image.fromarray(p)] * 3, Image.fromarray(a)]),
    "PA": as_palette_with_alpha,
    "P": as_palette,
    "array of two": lambda p, a: np.stack([p, a], 2),
    "array of four": lambda p, a: np.stack([p, p, p, a], 2),
    "deep array": lambda p, a: np.stack([p, a], 2).astype(np.uint16) * 257,
    "float array": lambda p, a: np.stack([p, a], 2).astype(np.float32) / 255,
}


@pytest.mark.parametrize("engine", ["torch", "onnx"])
@pytest.mark.parametrize("kind", KINDS)
def test_hidden_values_change_nothing(engines, engine, kind):
    alpha = cut_out()
    options = {"output_type": "np", "num_samples": 2, "num_candidates": 2}
    results = [
        np.stack(engines[engine](KINDS[kind](hide(gray(), alpha, h), alpha), **options).images)
        for h in HIDDEN
    ]
    for other in results[1:]:
        assert np.array_equal(results[0], other)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_visible_light_is_kept_and_the_hidden_is_that_of_its_surroundings(engines, engine):
    alpha, shown = cut_out(), gray()
    image = KINDS["LA"](hide(shown, alpha, 0), alpha)
    result = engines[engine](image).images[0]
    assert result.mode == "RGB"
    got = rgb2lab(np.asarray(result))[..., 0]
    want = rgb2lab(np.stack([shown] * 3, 2))[..., 0]
    assert np.abs(want - got)[alpha > 0].max() <= 100 / 255
    assert got[alpha == 0].min() >= want.min()


@pytest.mark.parametrize("engine", ["torch", "onnx"])
@pytest.mark.parametrize("kind", ["La", "RGBA with a key"])
def test_kinds_that_hold_no_hidden_values_of_their_own(engines, engine, kind):
    alpha = cut_out()
    make = {"La": as_premultiplied, "RGBA with a key": as_png_with_key}[kind]
    options = {"output_type": "np"}
    want = engines[engine](KINDS["LA"](gray(), alpha), **options).images[0]
    got = engines[engine](make(gray(), alpha), **options).images[0]
    np.testing.assert_allclose(got, want, atol=2e-3)


def test_both_engines_see_the_same(engines):
    alpha = np.asarray(Image.linear_gradient("L").resize(SIZE[::-1]))
    image = KINDS["LA"](gray(), alpha)
    chroma = [np.asarray(engines[name](image, output_type="latent").images[0]) for name in engines]
    np.testing.assert_allclose(*chroma, atol=1e-3 * np.abs(chroma[0]).max())


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_the_less_is_visible_the_less_it_counts(engines, engine):
    alpha, changes = np.full(SIZE, 255, np.uint8), []
    rng = np.random.default_rng(2)
    for level in (255, 128, 20, 2):
        alpha[:, 40:] = level
        one, two = gray(), gray()
        one[:, 40:], two[:, 40:] = rng.integers(0, 256, (2, SIZE[0], 40))
        results = [
            np.asarray(engines[engine](KINDS["LA"](p, alpha), output_type="latent").images[0])
            for p in (one, two)
        ]
        changes.append(np.abs(results[0] - results[1])[..., :4].mean())
    assert changes[2] < 0.5 * changes[0] and changes[3] < 0.05 * changes[0]


def test_a_transparent_margin_is_left_out_even_where_margins_are_not_looked_for(engines):
    page = np.full((120, 150), 77, np.uint8)
    page[30 : 30 + SIZE[0], 40 : 40 + SIZE[1]] = gray()
    alpha = np.zeros_like(page)
    alpha[30 : 30 + SIZE[0], 40 : 40 + SIZE[1]] = 255
    for engine in engines.values():
        bare = engine(gray(), output_type="np", find_margins=False).images[0]
        framed = engine(np.stack([page, alpha], 2), output_type="np", find_margins=False).images[0]
        assert np.array_equal(framed[30 : 30 + SIZE[0], 40 : 40 + SIZE[1]], bare)
        assert np.ptp(framed[:30], axis=-1).max() < 1e-3


def test_the_light_of_pictures_of_which_little_or_nothing_is_visible():
    values = np.float32([[10, 90], [30, 70]])
    assert (see_light(values, np.zeros((2, 2), np.float32)).seen == 50).all()
    light = see_light(values, np.float32([[0, 0], [0.5, 0]]))
    assert light.seen.tolist() == [[30, 30], [30, 30]] and light.visible == (1, 2, 0, 1)
    assert see_light(values, None).luminance is values


def test_turned_and_deep_pictures(engines):
    alpha = cut_out()
    deep = Image.fromarray(np.where(alpha == 0, 7, gray().astype(np.uint16) * 257))
    deep.info["transparency"] = 7
    want = engines["torch"](KINDS["LA"](gray(), alpha), output_type="np").images[0]
    for engine in engines.values():
        np.testing.assert_allclose(engine(deep, output_type="np").images[0], want, atol=2e-3)
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    KINDS["LA"](np.rot90(gray()).copy(), np.rot90(alpha).copy()).save(stream, "PNG", exif=exif)
    with Image.open(stream) as turned:
        got = engines["torch"](turned, output_type="np").images[0]
    assert np.array_equal(got, want)


# --- files ---------------------------------------------------------------------------------------


def color() -> np.ndarray:
    """A picture in strong colours, uint8 (H, W, 3)."""
    return (smooth_picture(*SIZE, seed=3).movedim(0, -1).numpy() * 255).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_files_read_the_same_whatever_they_hide(tmp_path, suffix):
    alpha = cut_out()
    read = []
    for index, hidden in enumerate(HIDDEN):
        file = tmp_path / f"{index}{suffix}"
        options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
        KINDS["RGBA"](hide(gray(), alpha, hidden), alpha).save(file, **options)
        read.append(photo.read(file))
    for other in read[1:]:
        assert np.array_equal(read[0].image, other.image)
        assert np.array_equal(other.alpha, alpha)


def test_hidden_or_hardly_visible_colours_do_not_make_a_photograph_one_in_colour(tmp_path):
    for level, is_in_color in ((255, True), (2, False), (0, False)):
        rgba = np.dstack([np.stack([gray()] * 3, 2), np.full(SIZE, 255, np.uint8)])
        rgba[:, 20:, :3], rgba[:, 20:, 3] = color()[:, 20:], level
        Image.fromarray(rgba).save(tmp_path / "in.png")
        assert photo.read(tmp_path / "in.png").in_color == is_in_color


def test_the_command_writes_the_same_whatever_is_hidden(tmp_path):
    alpha = cut_out()
    alpha[:, 60:] = 3
    for name, hidden in (("black", 0), ("white", 255)):
        (tmp_path / name).mkdir()
        KINDS["LA"](hide(gray(), alpha, hidden), alpha).save(tmp_path / name / "in.png")
        result = run(tmp_path / name / "in.png", "-o", tmp_path / name / "out.png")
        assert result.exit_code == 0, result.output
    with (
        Image.open(tmp_path / "black" / "out.png") as black,
        Image.open(tmp_path / "white" / "out.png") as white,
    ):
        assert black.mode == "RGBA" and np.array_equal(np.asarray(black.getchannel("A")), alpha)
        assert np.array_equal(np.asarray(black), np.asarray(white))


def test_training_learns_nothing_from_what_is_hidden():
    alpha, pictures = cut_out(), []
    for hidden in HIDDEN:
        rgba = np.dstack([hide(color(), alpha[..., None], hidden), alpha])
        stream = io.BytesIO()
        Image.fromarray(rgba).save(stream, "PNG")
        pictures.append(decode({"bytes": stream.getvalue(), "path": None}, SIZE[0]))
    for other in pictures[1:]:
        assert torch.equal(pictures[0], other)
    shown = torch.from_numpy(color()).movedim(-1, 0)
    visible = torch.from_numpy(alpha > 0)
    assert torch.equal(pictures[0][:, visible], shown[:, visible])
