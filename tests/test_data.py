"""Draws, augmentation and sources of training data."""

import dataclasses
import io
import json
import multiprocessing
import os
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from datasets import Image as ImageFeature
from PIL import Image
from skimage.color import rgb2lab
from torch.nn import functional as F

from pipeline_colorize.core.color import rgb_to_lab
from pipeline_colorize.training.augmentation import cut_square, random_crop, random_flip
from pipeline_colorize.training.batches import (
    BatchFormat,
    Division,
    TrainingBatches,
    batch_loader,
    luminance_to_input,
    make_batch,
    validation_batches,
    with_hints,
)
from pipeline_colorize.training.config import DataConfig
from pipeline_colorize.training.decoding import decode
from pipeline_colorize.training.draws import PICTURES, make_generator
from pipeline_colorize.training.sources import (
    PictureCache,
    PictureSet,
    PictureStream,
    epoch_order,
    load_training_pictures,
    open_splits,
    shares,
)

LAB = BatchFormat(color_channels=2, hint_channels=3, chroma_stride=4, ab_scale=33.0)


def random_pictures(count, height=16, width=16, seed=0):
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.integers(0, 256, (count, 3, height, width), dtype=np.uint8))


def generators(count, seed=0):
    return [make_generator(seed, PICTURES, draw) for draw in range(count)]


def plain(**changes) -> DataConfig:
    """A configuration without augmentation."""
    nothing = {"flip": False, "crop_probability": 0.0, "degrade_probability": 0.0}
    return DataConfig(**{"resolution": 16, "hint_probability": 0.0, **nothing, **changes})


class List(list):
    """Draw number -> picture, again and again."""

    def __getitem__(self, draw):
        return super().__getitem__(draw % len(self))


# Batches


def test_a_plain_batch_is_what_scikit_image_says():
    pictures = random_pictures(3)
    batch = make_batch(pictures, LAB, plain(), generators(3))
    lab = torch.from_numpy(rgb2lab(pictures.permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    assert torch.allclose(batch["condition"][:, :1], lab[:, :1].float() / 50 - 1, atol=1e-4)
    assert not batch["condition"][:, 1:].any()
    # (B, 2, 4, 4, 4, 4) -> means of 4x4 blocks
    blocks = lab[:, 1:].reshape(3, 2, 4, 4, 4, 4).mean((3, 5)) / 33
    assert torch.allclose(batch["color"], blocks.float(), atol=1e-4)


def test_a_teacher_gets_the_picture_that_the_condition_was_made_from():
    layout = dataclasses.replace(LAB, picture=True)
    settings = plain(flip=True, crop_probability=0.5, crop_smallest=0.5)
    batch = make_batch(random_pictures(8), layout, settings, generators(8))
    assert batch["picture"].dtype == torch.uint8
    luminance = rgb_to_lab(batch["picture"] / 255)[:, :1]
    assert torch.allclose(batch["condition"][:, :1], luminance / 50 - 1, atol=0.02)
    without = make_batch(random_pictures(8), LAB, settings, generators(8))
    assert without.keys() == batch.keys() - {"picture"}


def test_rgb_colour_is_the_picture_itself():
    pictures = random_pictures(2)
    batch = make_batch(pictures, BatchFormat(color_channels=3), plain())
    assert batch["condition"].shape == (2, 1, 16, 16)
    assert torch.allclose(batch["color"], pictures / 127.5 - 1, atol=1e-4)


@pytest.mark.parametrize("layout", [LAB, BatchFormat(color_channels=3)], ids=["lab", "rgb"])
def test_a_draw_does_not_depend_on_its_batch_or_process(layout):
    config = DataConfig(
        resolution=16,
        degrade_probability=1.0,
        degrade_scratches=3,
        load_size=20,
        film_probability=0.5,
    )
    pictures = List(random_pictures(5, 20, 24))

    def batches(**changes):
        division = Division(**changes)
        return TrainingBatches(pictures, layout, config, 3, division, noise_levels=2)

    whole = batches(batch_size=8)[1]
    ranks = [batches(batch_size=4, process=rank, processes=2)[1] for rank in range(2)]
    halves = [batches(batch_size=4, accumulation=2)[number] for number in (2, 3)]
    for parts in (ranks, halves):
        for name, expected in whole.items():
            assert torch.allclose(torch.cat([part[name] for part in parts]), expected, atol=1e-5)
    assert len({tuple(row.tolist()) for row in whole["noise"].flatten(1)}) == 16
    other = TrainingBatches(pictures, layout, config, 4, Division(8), noise_levels=2)[1]
    assert not torch.equal(other["noise"], whole["noise"])
    assert whole["noise"].std() == pytest.approx(1, abs=0.1)


def test_some_steps_see_larger_pictures_and_the_others_what_they_would_see_anyway():
    config = plain(crop_probability=1.0, large_resolution=32, large_share=0.4)
    large = List(random_pictures(3, 32, 48))

    def batches(large=None, **changes):
        pictures, division = List(random_pictures(5)), Division(**changes)
        return TrainingBatches(pictures, LAB, config, 1, division, noise_levels=2, large=large)

    mixed, plainly = batches(batch_size=8, large=large), batches(batch_size=8)
    steps = [mixed[number] for number in range(40)]
    wide = [step for step in steps if step["color"].shape[-1] == 8]
    assert 8 <= len(wide) <= 24
    for step in wide:  # as many pixels, in fewer pictures, which are not enlarged any more
        assert step["condition"].shape == (2, 4, 32, 32) and step["noise"].shape == (4, 2, 8, 8)
        assert (step["timesteps"].sort().values * 4 // 1000 - torch.arange(4)).abs().max() <= 1
    for number, step in enumerate(steps):
        if step["color"].shape[-1] == 4:
            for name, expected in plainly[number].items():
                assert torch.equal(step[name], expected)
    ranks = [batches(batch_size=4, process=r, processes=2, large=large) for r in range(2)]
    for number, step in enumerate(steps):
        both = [rank[number] for rank in ranks]
        for name, expected in step.items():
            assert torch.allclose(torch.cat([one[name] for one in both]), expected, atol=1e-5)


def test_a_share_of_the_conditions_is_dropped_whole_and_nothing_else_changes():
    pictures = List(random_pictures(5))
    division = Division(200)
    known = TrainingBatches(pictures, LAB, plain(hint_probability=1.0), 0, division)[0]
    config = plain(hint_probability=1.0, condition_dropout=0.3)
    batch = TrainingBatches(pictures, LAB, config, 0, division)[0]
    dropped = ~batch["condition"].flatten(1).any(1)
    assert 40 < dropped.sum() < 80
    assert torch.equal(batch["condition"][~dropped], known["condition"][~dropped])
    for name in ("color", "noise", "timesteps"):
        assert torch.equal(batch[name], known[name])


def test_timesteps_of_a_step_are_stratified_over_processes_and_accumulation():
    pictures = List(random_pictures(5))
    divisions = [Division(4, accumulation=2, process=rank, processes=2) for rank in range(2)]
    ranks = [
        TrainingBatches(pictures, LAB, plain(), 0, division, noise_levels=2)
        for division in divisions
    ]
    timesteps = torch.cat([rank[number]["timesteps"] for rank in ranks for number in (4, 5)])
    assert (timesteps.sort().values * 32 // 1000 - torch.arange(32)).abs().max() <= 1


def test_validation_batches_are_the_same_every_time_and_in_any_batch_size():
    pictures = List(random_pictures(5))

    def collect(batch_size):
        parts = list(validation_batches(pictures, LAB, plain(), batch_size, 1000))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    first, second = collect(5), collect(2)
    for name, value in first.items():
        assert torch.allclose(value, second[name], atol=1e-6), name
    assert first["noise"].shape == (20, 2, 4, 4)


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="not 4"):
        BatchFormat.of_model({"sample_channels": 4})
    with pytest.raises(ValueError, match="`in_channels` 4.*not 3"):
        BatchFormat.of_model({"out_channels": 3, "in_channels": 3})
    with pytest.raises(ValueError, match="Hints are"):
        BatchFormat.of_model({"sample_channels": 3, "hint_channels": 3})


# Augmentation


def test_flips_mirror_half_of_the_pictures_and_nothing_else():
    lab = torch.randn(200, 3, 8, 8)
    out = random_flip(lab, generators(200))
    flipped = (out == lab.flip(-1)).flatten(1).all(1)
    kept = (out == lab).flatten(1).all(1)
    assert (flipped ^ kept).all() and 70 < flipped.sum() < 130


def test_crops_enlarge_a_part():
    ramp = torch.linspace(0, 1, 64).expand(50, 3, 64, 64)
    out = random_crop(ramp, generators(50), probability=1.0)
    share = out.amax((1, 2, 3)) - out.amin((1, 2, 3))
    assert share.min() > 0.67 and share.max() < 1.0 and share.std() > 0.05
    assert out.min() >= 0 and out.max() <= 1


@pytest.mark.parametrize("height, width", [(40, 64), (64, 40), (16, 16)])
def test_squares_are_cut_inside_the_picture(height, width):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    picture = torch.stack([y, x, x]).byte()
    middle = cut_square(picture, min(height, width))
    assert middle.shape == (3, min(height, width), min(height, width))
    assert middle[0].float().mean() == pytest.approx((height - 1) / 2, abs=0.51)
    assert middle[1].float().mean() == pytest.approx((width - 1) / 2, abs=0.51)
    sizes = set()
    for number in range(50):
        square = cut_square(picture, 16, make_generator(0, 0, number)).float()
        assert square.shape == (3, 16, 16)
        assert square[0].max() <= height - 1 and square[1].max() <= width - 1
        sizes.add(round((square[1].max() - square[1].min()).item()))
    assert len(sizes) > 10 or height == width


# Order


def test_an_epoch_of_one_set_is_a_permutation_and_the_next_another():
    orders = [epoch_order([10], np.ones(1), 10, 0, epoch)[1].tolist() for epoch in (0, 0, 1)]
    assert sorted(orders[0]) == list(range(10))
    assert orders[0] == orders[1] != orders[2]


def test_sets_get_their_shares_and_go_through_whole_permutations():
    weights = shares([100, 400], 0.5)
    assert weights.tolist() == pytest.approx([1 / 3, 2 / 3])
    source, index = epoch_order([100, 400], weights, 600, 0, 0)
    assert np.bincount(source).tolist() == [200, 400]
    assert np.bincount(index[source == 0]).tolist() == [2] * 100
    assert np.bincount(index[source == 1]).tolist() == [1] * 400
    assert shares([100, 400], 0.5, [2.0, 1.0]).tolist() == pytest.approx([0.5, 0.5])
    with pytest.raises(ValueError, match="positive"):
        shares([1, 2], 1, [-1, 2])


def test_streams_of_random_numbers_are_apart():
    numbers = {
        make_generator(seed, stream, number).random()
        for seed in range(3)
        for stream in range(4)
        for number in range(3)
    }
    assert len(numbers) == 36


# Sources


def encode(picture: torch.Tensor, kind="PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(stream, kind)
    return stream.getvalue()


def as_dataset(encoded: list[bytes], column="image") -> Dataset:
    rows = {column: [{"bytes": content, "path": f"{i}"} for i, content in enumerate(encoded)]}
    return Dataset.from_dict(rows).cast_column(column, ImageFeature(decode=False))


def test_pictures_are_scaled_turned_and_decoded_in_rgb():
    image = Image.fromarray(random_pictures(1, 40, 60)[0].permute(1, 2, 0).numpy())
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    stream = io.BytesIO()
    image.save(stream, "JPEG", exif=exif)
    picture = decode({"bytes": stream.getvalue(), "path": None}, 20)
    assert picture.shape == (3, 30, 20) and picture.dtype == torch.uint8


def test_broken_pictures_are_left_out_with_a_warning():
    good = [encode(picture) for picture in random_pictures(3)]
    dataset = as_dataset([good[0], good[1][:60], b"", b"no picture", good[2]])
    with pytest.warns(UserWarning, match="left out 3 broken: .'1', '2', '3'"):
        pictures = PictureSet(dataset, 16)
    assert len(pictures) == 2
    assert torch.equal(pictures[1], random_pictures(3)[2])


def test_pictures_beyond_the_budget_are_decoded_at_use():
    originals = random_pictures(6)
    encoded = [encode(picture) for picture in originals]
    encoded[4] = b"broken"
    pictures = PictureSet(as_dataset(encoded), 16, budget=2 * originals[0].numel())
    assert len(pictures.cached) == 2 and len(pictures) == 6
    for index in (0, 1, 2, 3, 5):
        assert torch.equal(pictures[index], originals[index])
    assert torch.equal(pictures[4], originals[5])  # the next good one


def test_empty_and_grey_data_sets_are_refused():
    with pytest.raises(ValueError, match="flowers.*no readable picture"):
        PictureSet(as_dataset([]), 16, name="flowers")
    grey = random_pictures(1)[0, :1].expand(3, -1, -1).contiguous()
    with pytest.raises(ValueError, match="all its pictures are grey"):
        PictureSet(as_dataset([encode(grey)] * 3), 16)


def write_splits(folder, sizes, column="image", first_seed=0):
    splits = {}
    for seed, (split, count) in enumerate(sizes.items(), start=first_seed):
        encoded = [encode(picture) for picture in random_pictures(count, seed=seed)]
        splits[split] = as_dataset(encoded, column)
    folder.mkdir()
    for split, dataset in splits.items():
        dataset.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return DatasetDict(splits)


def test_parquet_folders_are_mixed_and_validated_on_their_split(tmp_path):
    write_splits(tmp_path / "a", {"train": 8, "validation": 3, "test": 2})
    write_splits(tmp_path / "b", {"train": 24, "validation": 9}, first_seed=9)
    config = plain(
        datasets=[str(tmp_path / "a"), str(tmp_path / "b")],
        size_exponent=0.0,
        validation_pictures=5,
    )
    pictures, steps, validation = load_training_pictures(config, 0, 8)
    assert steps == 4 and pictures.sizes == [8, 24]
    assert {name: len(held) for name, held in validation.items()} == {"a": 3, "b": 5}
    drawn = [bytes(pictures[draw].numpy()) for draw in range(32)]
    first = {bytes(picture.numpy()) for picture in pictures.sets[0].cached}
    assert sum(picture in first for picture in drawn) == 16


def test_a_folder_of_pictures_gives_some_for_validation(tmp_path):
    for number, picture in enumerate(random_pictures(21)):
        (tmp_path / f"{number}.png").write_bytes(encode(picture))
    config = plain(datasets=[str(tmp_path)])
    pictures, steps, validation = load_training_pictures(config, 0, 8)
    (held,) = validation.values()
    assert (len(held), pictures.sizes, steps) == (2, [19], 2)
    train = {bytes(picture.numpy()) for picture in pictures.sets[0].cached}
    assert not train & {bytes(picture.numpy()) for picture in held.cached}
    again = load_training_pictures(config, 5, 8)[2]
    assert torch.equal(next(iter(again.values()))[0], held[0])
    none = load_training_pictures(plain(datasets=[str(tmp_path)], validation_pictures=0), 0, 8)
    assert none[0].sizes == [21] and not none[2]


def test_a_set_smaller_than_a_step_fills_it(tmp_path):
    write_splits(tmp_path / "a", {"train": 3})
    config = plain(datasets=[str(tmp_path / "a")], validation_pictures=0)
    pictures, steps, _ = load_training_pictures(config, 0, 8)
    assert steps == 1
    counts = {}
    for draw in range(8):
        key = bytes(pictures[draw].numpy())
        counts[key] = counts.get(key, 0) + 1
    assert sorted(counts.values()) == [2, 3, 3]


def test_a_folder_that_was_elsewhere_is_not_taken_for_the_one_that_is_meant(tmp_path, monkeypatch):
    name = f"slides-{tmp_path.name}-{os.getpid()}"
    write_splits(tmp_path / name, {"train": 3})
    monkeypatch.chdir(tmp_path)
    load_training_pictures(plain(datasets=[name]), 0, 8)
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(ValueError, match="no such folder here"):
        load_training_pictures(plain(datasets=[name]), 0, 8)


def test_wrong_sources_are_refused_by_name(tmp_path):
    def load(**changes):
        return load_training_pictures(plain(**changes), 0, 8)

    with pytest.raises(ValueError, match="no folder.*nowhere"):
        load(datasets=[str(tmp_path / "nowhere")])
    with pytest.raises(ValueError, match=r"no folder or parquet file 'pictures\.parquet'"):
        load(datasets=["pictures.parquet"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no data set"):
        load(datasets=[str(tmp_path / "empty")])
    (tmp_path / "pictures.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"pictures\.zip is a file; a data set is a folder"):
        load(datasets=[str(tmp_path / "pictures.zip")])
    with pytest.raises(
        ValueError, match="flowers102x: there is no such folder here, and on the Hub"
    ):
        load(datasets=["flowers102x"])
    write_splits(tmp_path / "a", {"test": 3}, column="photo")
    with pytest.raises(ValueError, match="no column 'image', only photo: set `image_column`"):
        load(datasets=[str(tmp_path / "a")])
    with pytest.raises(ValueError, match="no split 'train', only .'test'"):
        load(datasets=[str(tmp_path / "a")], image_column="photo")


def test_a_parquet_file_is_a_data_set(tmp_path):
    write_splits(tmp_path / "a", {"train": 12})
    (file,) = (tmp_path / "a").rglob("*.parquet")
    for streaming in (False, True):
        config = plain(datasets=[str(file)], streaming=streaming, epoch_pictures=8)
        pictures, _, _ = load_training_pictures(config, 0, 8)
        assert pictures[0].shape == (3, 16, 16)


@pytest.mark.parametrize("count, chunks", [(3, 1), (3000, 4)])
def test_pictures_in_memory_share_few_tensors(count, chunks):
    cache, originals = PictureCache(), random_pictures(3, 16, 24)
    for number in range(count):
        cache.append(originals[number % 3, :, :, : 16 + number % 3])
    assert len(cache) == count and len(cache._chunks) <= chunks
    for number in (0, 1, count - 1):
        assert torch.equal(cache[number], originals[number % 3, :, :, : 16 + number % 3])
    assert cache.nbytes == sum(3 * 16 * (16 + number % 3) for number in range(count))


def test_a_stream_is_handed_to_another_process(tmp_path):
    write_splits(tmp_path / "a", {"train": 12})
    config = plain(datasets=[str(tmp_path / "a")], streaming=True, epoch_pictures=16)
    pictures, _, _ = load_training_pictures(config, 0, 8)
    first = [pictures[draw] for draw in range(3)]
    again = pickle.loads(pickle.dumps(pictures))
    assert all(torch.equal(again[draw], picture) for draw, picture in enumerate(first))


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("streaming", [False, True], ids=["folder", "stream"])
def test_workers_that_are_not_forked_make_the_same_batches(tmp_path, monkeypatch, streaming):
    """As on macOS and Windows; more pictures are in memory than the process may open files."""
    write_splits(tmp_path / "a", {"train": 300})
    config = plain(datasets=[str(tmp_path / "a")], streaming=streaming, epoch_pictures=16)
    pictures, _, _ = load_training_pictures(dataclasses.replace(config, shuffle_buffer=4), 0, 8)
    batches = TrainingBatches(pictures, LAB, config, 0, Division(8))
    alone = [batches[number] for number in range(2)]
    monkeypatch.setattr(multiprocessing.context._default_context, "_actual_context", None)
    multiprocessing.set_start_method("spawn")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(list(Path("/dev/fd").iterdir())) if Path("/dev/fd").is_dir() else 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 100, hard))
    try:
        made = list(batch_loader(batches, 0, 2, workers=1, pin_memory=False))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for batch, expected in zip(made, alone, strict=True):
        for name, tensor in expected.items():
            assert torch.equal(batch[name], tensor)


def test_a_stream_can_be_entered_anywhere(tmp_path):
    write_splits(tmp_path / "a", {"train": 12, "validation": 2})
    write_splits(tmp_path / "b", {"train": 5}, first_seed=9)
    config = plain(
        datasets=[str(tmp_path / "a"), str(tmp_path / "b")],
        streaming=True,
        epoch_pictures=16,
        shuffle_buffer=4,
        dataset_weights=[0.7, 0.3],
    )

    def stream():
        return load_training_pictures(config, 0, 8)

    pictures, steps, validation = stream()
    assert steps == 2 and {name: len(held) for name, held in validation.items()} == {"a": 2}
    whole = [pictures[draw] for draw in range(60)]  # several passes over the data
    seen = [bytes(picture.numpy()) for picture in whole]
    assert len(set(seen)) == 17
    small = {bytes(picture.numpy()) for picture in random_pictures(5, seed=9)}
    assert sum(picture in small for picture in seen[:48]) == 3 * 5  # .3 of 16, in each epoch
    entered = stream()[0]
    for draw in (7, 8, 30, 59, 3):
        assert torch.equal(entered[draw], whole[draw]), draw


def test_a_broken_picture_in_a_stream_is_replaced_by_the_next():
    encoded = [encode(picture) for picture in random_pictures(4)]
    encoded[1] = b"broken"
    stream = PictureStream(as_dataset(encoded).to_iterable_dataset(), 16)
    assert torch.equal(stream[1], stream[2])
    hopeless = as_dataset([b"broken"] * 3).to_iterable_dataset()
    with pytest.raises(ValueError, match="broken pictures in a row"):
        PictureStream(hopeless, 16)[0]


def test_condition_carries_hints_at_the_size_of_the_luminance():
    luminance, hints = torch.zeros(1, 1, 8, 8), torch.randn(1, 3, 2, 2)
    condition = with_hints(luminance, hints)
    assert condition.shape == (1, 4, 8, 8)
    assert torch.allclose(F.avg_pool2d(condition[:, 1:], 4), hints)
    assert (
        json.dumps(luminance_to_input(torch.tensor([0.0, 50, 100])).tolist()) == "[-1.0, 0.0, 1.0]"
    )


def test_names_that_make_splits_hide_no_pictures(tmp_path):
    (tmp_path / "train station").mkdir()
    for name in ("beach.png", "forest.png", "train station/platform.png"):
        Image.new("RGB", (8, 8), (90, 60, 30)).save(tmp_path / name)
    with pytest.raises(ValueError, match="2 of 3 pictures are in no split, such as .*beach.png"):
        open_splits(str(tmp_path), DataConfig())
    (tmp_path / "train station").rename(tmp_path / "station")
    assert len(open_splits(str(tmp_path), DataConfig())["train"]) == 3


def test_kinds_of_pictures_that_datasets_passes_over_are_named(tmp_path):
    Image.new("RGB", (16, 16), "red").save(tmp_path / "a.png")
    Image.new("RGB", (16, 16), "blue").save(tmp_path / "b.avif")
    (tmp_path / "c.HEIC").write_bytes(b"")
    for _ in range(2):  # beside others, and alone
        with pytest.raises(ValueError, match=r"does not take 1 .avif, 1 .heic; save them as"):
            open_splits(str(tmp_path), DataConfig(datasets=[str(tmp_path)]))
        (tmp_path / "a.png").unlink(missing_ok=True)
