"""The training study: trials are merged as written, trained, measured, and done once."""

import numpy as np
import pytest
import yaml
from conftest import load_script, smooth_picture
from datasets import Dataset
from PIL import Image

TINY = {
    "resolution": 16,
    "model_class": "ColorizationUNet",
    "model": {"sample_channels": 2, "block_out_channels": [8, 16], "condition_channels": 1},
    "scheduler_class": "OffsetCosineScheduler",
    "scheduler": {"prediction_type": "v_prediction"},
    "batch_size": 2,
    "learning_rate": 1e-3,
    "checkpointing_epochs": None,
    "pipeline": {"default_num_inference_steps": 2},
}


def make_study(folder, **trials):
    (folder / "base.yaml").write_text(yaml.safe_dump(TINY))
    study = {"base": "base.yaml", "fields": {"model": {"layers_per_block": 1}}, "trials": trials}
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder / "study.yaml"


def test_a_trial_goes_over_the_fields_and_these_over_the_base(tmp_path):
    script = load_script("studies.training")
    file = make_study(tmp_path, plain={}, wide={"model": {"block_out_channels": [16, 32]}})
    plain, wide = script.read_trials(file).values()
    assert plain["model"] == TINY["model"] | {"layers_per_block": 1}
    assert wide == plain | {"model": plain["model"] | {"block_out_channels": [16, 32]}}


def test_the_study_of_the_project_changes_one_thing_a_trial():
    script = load_script("studies.training")
    trials = script.read_trials(script.ROOT / "configs" / "studies" / "default.yaml")
    base = trials.pop("as the default")
    for name, settings in trials.items():
        assert [key for key in settings if settings[key] != base.get(key)], name
        assert settings.keys() <= base.keys() | {"seed", "snr_gamma", "gradient_weight", "loss"} | {
            "color_jitter",
            "film_probability",
            "optimizer",
            "teacher",
        }


@pytest.mark.slow
def test_a_trial_is_trained_and_measured_once(tmp_path, monkeypatch):
    script = load_script("studies.training")
    monkeypatch.setattr(script, "PROBE_STEPS", 12)
    rgb = [smooth_picture(16, 16, seed=seed).movedim(0, -1).numpy() for seed in range(6)]
    pictures = [Image.fromarray((255 * one).astype(np.uint8)) for one in rgb]
    for split in ("train", "validation"):
        file = tmp_path / "pictures" / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(exist_ok=True)
        Dataset.from_dict({"image": pictures}).to_parquet(file)
    settings = script.read_trials(make_study(tmp_path, plain={}))["plain"]
    settings["datasets"] = [str(tmp_path / "pictures")]
    truths = [script.load(settings["datasets"][0], "validation", 3)]
    figures = script.try_out(settings, tmp_path / "plain", 0.5, truths)
    assert figures["pictures"] == 2 * figures["steps"] > 0
    assert 0 < figures["minutes"] < 1 and figures["energy_score"] > 0
    monkeypatch.setattr(script, "train", None)
    assert script.try_out(settings, tmp_path / "plain", 0.5, truths) == figures
    assert "| plain | 0.0 M | " in script.to_markdown({"plain": figures})
