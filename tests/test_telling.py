"""Telling the colours: masks of things, colours of other answers, references."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("skimage")
pytest.importorskip("cv2")

from pipeline_colorize.core.colorimetry import rgb_pixels_to_lab
from pipeline_colorize.core.luminance import see
from pipeline_colorize.core.mending import with_light_of
from pipeline_colorize.photo import tint_mask
from pipeline_colorize.telling.masks import region_hints, thing_mask
from pipeline_colorize.telling.references import match_reference, reference_hints
from pipeline_colorize.telling.retouching import fade_colors, take_colors

EXAMPLES = Path(__file__).resolve().parents[1] / "space" / "examples"


@pytest.fixture(scope="module")
def disc():
    """A grey disc of 60 pixels across on a darker ground, with grain."""
    y, x = np.mgrid[:160, :200]
    inside = np.hypot(y - 80, x - 90) < 30
    light = np.where(inside, 150, 90) + np.random.default_rng(0).normal(0, 4, inside.shape)
    return Image.fromarray(light.clip(0, 255).astype(np.uint8)), inside


def textured(seed, size=(300, 360)):
    """A picture in colour with much to recognise: coarse and fine patches."""
    random = np.random.default_rng(seed)
    layers = []
    for cells in (6, 14, 40):
        patch = random.integers(0, 256, (cells, cells, 3), np.uint8)
        layers.append(np.asarray(Image.fromarray(patch).resize(size[::-1], Image.BICUBIC), float))
    return Image.fromarray((np.mean(layers, 0)).astype(np.uint8))


# --- masks ----------------------------------------------------------------------------------------


def test_a_click_finds_the_thing_that_ends_at_the_lights_edges(disc):
    image, inside = disc
    mask = thing_mask(image, 85, 84, radius=50)
    assert mask.shape == (160, 200)
    assert mask.dtype == np.float32
    found = mask > 0.5
    assert (found & inside).sum() / (found | inside).sum() > 0.85
    y, x = np.mgrid[:160, :200]
    assert (mask[np.hypot(y - 84, x - 85) > 56] == 0).all()


def test_a_mask_is_grown_and_shrunk(disc):
    image, _ = disc
    areas = [(thing_mask(image, 90, 80, 45, grow=grow) > 0.5).sum() for grow in (-6, 0, 6)]
    radii = np.sqrt(np.array(areas) / np.pi)
    np.testing.assert_allclose(np.diff(radii), [6, 6], atol=2)


def test_a_click_at_the_border_and_one_on_an_even_picture(disc):
    assert thing_mask(disc[0], 0, 159, 20)[159, 0] == 1
    even = thing_mask(Image.new("L", (80, 60), 128), 40, 30, 20)
    assert even[30, 40] == 1
    assert even[30, 65] == 0
    assert (thing_mask(Image.new("L", (8, 6), 128), 4, 3, 400) == 1).all()


@pytest.mark.parametrize(
    ("place", "radius", "word"), [((200, 5), 9, "outside"), ((5, 5), 0, "radius")]
)
def test_wrong_clicks_are_named(disc, place, radius, word):
    with pytest.raises(ValueError, match=word):
        thing_mask(disc[0], *place, radius)


def test_hints_of_a_region_lie_in_it_and_fill_most(disc):
    _, inside = disc
    hints = region_hints(inside, "#2040c0")
    assert 1 <= len(hints) <= 12
    y, x = np.mgrid[:160, :200]
    covered = np.zeros_like(inside)
    for hint in hints:
        covered |= np.hypot(y - hint.y, x - hint.x) <= hint.radius
    assert not (covered & ~inside).any()
    assert covered.sum() > 0.5 * inside.sum()
    with pytest.raises(ValueError, match="empty"):
        region_hints(np.zeros((5, 5)), "#ffffff")


# --- colours of another answer, or none -----------------------------------------------------------


@pytest.fixture
def answers():
    """Two answers of one light."""
    grey = np.random.default_rng(1).integers(60, 190, (64, 80)).astype(np.uint8)
    luminance = see(Image.fromarray(grey)).luminance
    return [
        Image.fromarray(with_light_of(np.full((64, 80, 3), color, np.uint8), luminance))
        for color in ((200, 90, 80), (80, 110, 200))
    ]


def test_colours_of_another_answer_are_taken_within_the_mask(answers):
    mask = np.zeros((64, 80), np.uint8)
    mask[10:50, 20:60] = 255
    result = np.asarray(take_colors(*answers, Image.fromarray(mask)))
    first, second = (np.asarray(one) for one in answers)
    np.testing.assert_array_equal(result[mask == 0], first[mask == 0])
    np.testing.assert_array_equal(result[28:32, 38:42], second[28:32, 38:42])
    off = see(Image.fromarray(result)).luminance - see(answers[0]).luminance
    assert np.abs(off).max() < 1.5  # each of the two is rounded to 8 bits


@pytest.mark.parametrize(("amount", "left"), [(0, 1), (0.5, None), (1, 0)])
def test_colours_fade_within_the_mask(answers, amount, left):
    mask = np.zeros((64, 80), np.uint8)
    mask[:, 40:] = 255
    result = np.asarray(fade_colors(answers[0], Image.fromarray(mask), amount))
    before = np.asarray(answers[0])
    np.testing.assert_array_equal(result[:, :40], before[:, :40])
    chroma, old = (
        np.linalg.norm(rgb_pixels_to_lab(x[20:40, 60:] / 255)[..., 1:], axis=-1).mean()
        for x in (result, before)
    )
    assert chroma / old == pytest.approx(left, abs=0.03) if left is not None else 0 < chroma < old


def test_what_cannot_be_retouched_is_named(answers):
    with pytest.raises(ValueError, match="as large"):
        take_colors(answers[0], Image.new("RGB", (5, 5)), Image.new("L", (80, 64)))
    with pytest.raises(ValueError, match="amount"):
        fade_colors(answers[0], Image.new("L", (80, 64)), 2)


# --- references -----------------------------------------------------------------------------------


def test_another_crop_of_the_picture_is_found_where_it_is():
    whole = textured(0)
    ours = whole.crop((0, 0, 260, 240)).convert("L")
    turned = whole.crop((80, 40, 360, 300)).rotate(5, resample=Image.BICUBIC).resize((320, 300))
    matches = match_reference(ours, turned)
    assert len(matches) >= 12
    true = rgb_pixels_to_lab(np.asarray(whole) / 255)[..., 1:]
    off = [np.linalg.norm(true[round(m.y), round(m.x)] - m.chroma) for m in matches]
    assert np.median(off) < 10
    assert [m.confidence for m in matches] == sorted((m.confidence for m in matches), reverse=True)
    hints = reference_hints(ours, [turned])
    assert 20 <= len(hints) <= 200 and hints[:10] == reference_hints(ours, [turned], most=10)
    places = np.array([(hint.x, hint.y) for hint in hints])
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1) + 999 * np.eye(len(places))
    assert gaps.min() >= 0.06 * 240
    errors = [np.linalg.norm(true[round(h.y), round(h.x)] - h.chroma()) for h in hints]
    assert np.median(errors) < 10


@pytest.mark.parametrize("other", [textured(1), Image.new("RGB", (200, 100), "red")])
def test_a_reference_of_something_else_gives_nothing(other):
    assert match_reference(textured(0).convert("L"), other) == []
    assert reference_hints(textured(0).convert("L"), [other]) == []


def test_colour_does_not_decide_what_matches():
    """The same light in other colours matches as well as in its own."""
    grey = textured(0).convert("L")
    tinted = Image.merge("RGB", [grey, grey.point(lambda v: v), grey])
    assert len(match_reference(grey, tinted)) > 100


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_a_call_takes_references(engine):
    from pipeline_colorize import ColorizationPipeline, ORTColorizationPipeline
    from pipeline_colorize.onnx.noise import TorchGenerator

    whole = textured(0)
    grey, other = whole.crop((0, 0, 260, 240)).convert("L"), whole.crop((60, 20, 360, 300))
    cheap = {"num_inference_steps": 1, "num_candidates": 1, "second_look": 1.0, "eta": 0.0}
    if engine == "onnx":
        pipe, seed = ORTColorizationPipeline.from_pretrained("default"), TorchGenerator()
    else:
        torch = pytest.importorskip("torch")
        pipe = ColorizationPipeline.from_pretrained("default", dtype=torch.float32)
        seed = torch.Generator()

    def colors(**told):
        return pipe(grey, generator=seed.manual_seed(1), **cheap, **told).images[0]

    hints = reference_hints(grey, [other])
    assert hints
    assert colors(reference_images=[other]) == colors(hints=hints) != colors()
    assert colors(reference_images=[textured(1)]) == colors()
    with pytest.raises(ValueError, match="one list a picture, so 1"):
        colors(reference_images=[[other], [other]])


def test_margins_get_no_hints_from_references():
    page = Image.new("RGB", (460, 420), "white")
    page.paste(textured(0), (50, 60))
    hints = reference_hints(page.convert("L"), [page])
    assert hints
    assert all(50 <= hint.x < 410 and 60 <= hint.y < 360 for hint in hints)


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def desk(tmp_path):
    """A photograph, a result for it, and another picture of the same."""
    picture = textured(0, (120, 160))
    picture.convert("L").save(tmp_path / "a.png")
    luminance = see(picture.convert("L")).luminance
    Image.fromarray(with_light_of(np.asarray(picture), luminance)).save(tmp_path / "b.png")
    textured(0).crop((0, 0, 300, 260)).save(tmp_path / "c.png")
    return tmp_path


def colorize(*arguments):
    from click.testing import CliRunner

    from pipeline_colorize import cli

    return CliRunner().invoke(cli.main, [str(one) for one in arguments])


def test_the_command_mends_one_place(desk):
    out = desk / "mended.png"
    told = ["--colored", desk / "b.png", "--mend", "40,50,20", "-o", out, "--steps", 1]
    result = colorize(desk / "a.png", *told, "--candidates", 1, "--second-look", 1)
    assert result.exit_code == 0, result.output
    before, after = (np.asarray(Image.open(desk / name)) for name in ("b.png", "mended.png"))
    y, x = np.mgrid[:120, :160]
    far = np.hypot(y - 50, x - 40) > 24
    np.testing.assert_array_equal(after[far], before[far])
    assert (after[48:53, 38:43] != before[48:53, 38:43]).any()
    assert "40,50,20" in str(Image.open(out).info)


def test_the_command_takes_references_of_the_same(desk):
    options = ["--steps", 1, "--candidates", 1, "--second-look", 1, "--overwrite"]
    results = []
    for told in ([], ["--reference", desk / "c.png"]):
        done = colorize(desk / "a.png", "-o", desk / "out.png", *options, *told)
        assert done.exit_code == 0, done.output
        results.append(np.asarray(Image.open(desk / "out.png").convert("RGB"), float))
    true = rgb_pixels_to_lab(np.asarray(Image.open(desk / "b.png")) / 255)[..., 1:]
    errors = [
        np.linalg.norm(rgb_pixels_to_lab(one / 255)[..., 1:] - true, axis=-1).mean()
        for one in results
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    ("told", "word"),
    [
        (["--mend", "4,5"], "--colored"),
        (["--strength", "0.5"], "--colored"),
        (["--mend", "4"], "X,Y"),
        (["--colored", "none.png"], "no such file"),
        (["--reference", "none.png"], "no such file"),
        (["--keep-tints", "--colored", "b.png"], "--keep-tints"),
        (["--keep-tints", "--chroma-only"], "--keep-tints"),
    ],
)
def test_the_command_names_what_does_not_fit(desk, told, word):
    result = colorize(desk / "a.png", *told)
    assert result.exit_code == 2
    assert word in result.output


# --- tints ----------------------------------------------------------------------------------------


def tinted_by_hand(name, toned):
    """A historical photograph with two painted places, where they are, and where nothing is."""
    from skimage.color import lab2rgb, rgb2lab

    grey = Image.open(EXAMPLES / name).convert("L")
    grey.thumbnail((300, 300))
    lab = rgb2lab(np.repeat(np.asarray(grey)[..., None], 3, axis=2))
    if toned:
        lab[..., 1:] = np.sin(np.pi * lab[..., :1] / 100) * (6, 16)
    y, x = np.mgrid[: grey.height, : grey.width]
    painted, bare = np.zeros(lab.shape[:2], bool), np.ones(lab.shape[:2], bool)
    for row, column, color in ((0.4, 0.5, (18, 12)), (0.75, 0.4, (-8, -22))):
        distance = np.hypot(y - row * grey.height, x - column * grey.width)
        cover = ((36 - distance) / 6 + 0.5).clip(0, 1)
        lab[..., 1:] += cover[..., None] * color
        painted |= cover == 1
        bare &= distance > 50
    return np.rint(lab2rgb(lab).clip(0, 1) * 255).astype(np.uint8), painted, bare


@pytest.mark.parametrize("toned", [False, True])
@pytest.mark.parametrize("name", ["mark-twain-1907.jpg", "suffrage-parade-1917.jpg"])
def test_tints_are_found_and_the_tone_of_a_print_is_none(name, toned):
    pixels, painted, bare = tinted_by_hand(name, toned)
    found = tint_mask(pixels)
    assert found.shape == pixels.shape[:2] and found.dtype == np.float32
    assert found[painted].mean() > 0.97 and found[bare].max() == 0
    deep = (pixels.astype(np.uint16) * 257, pixels / np.float32(255))
    for same in deep:
        np.testing.assert_allclose(tint_mask(same), found, atol=0.02)
    assert not tint_mask(pixels[..., 1]).any()
    assert not tint_mask(pixels[:8, :8]).any()


def test_the_command_keeps_tints_and_colours_the_rest(tmp_path):
    album = tmp_path / "album"
    album.mkdir()
    pixels, painted, bare = tinted_by_hand("mark-twain-1907.jpg", toned=False)
    Image.fromarray(pixels).save(album / "tinted.png")
    Image.fromarray(pixels).convert("L").save(album / "grey.png")
    quick = ["--steps", 1, "--candidates", 1, "--second-look", 1, "--batch-size", 2]
    result = colorize(album, "-o", tmp_path, *quick, "--keep-tints")
    assert result.exit_code == 0 and "2 colorized" in result.output, result.output
    grey, kept = (np.asarray(Image.open(tmp_path / f"{one}.png")) for one in ("grey", "tinted"))
    np.testing.assert_array_equal(kept[painted], pixels[painted])
    colorfulness = [
        np.hypot(*rgb_pixels_to_lab(one[bare] / 255)[..., 1:].T) for one in (kept, grey)
    ]
    assert np.mean(colorfulness, axis=1).min() > 3
    assert "tints=kept" in str(Image.open(tmp_path / "tinted.png").info)
    assert "2 done already" in colorize(album, "-o", tmp_path, *quick, "--keep-tints").output
