"""diffusers' own tests of pipelines, the new ones and the older ones, on each layout."""

import unittest
from importlib.util import find_spec

import pytest
import torch
from conftest import UNET_CONFIGS, smooth_picture, tiny_unet
from upstream import load

from pipeline_colorize.core.pipeline import ColorizationPipeline
from pipeline_colorize.core.scheduler import OffsetCosineScheduler

testing = load("pipelines.testing_utils")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def float32_by_default(monkeypatch):
    """What is saved and loaded is compared with float32; else this machine might load bfloat16."""
    monkeypatch.setattr("pipeline_colorize.core.saving.native_dtype", lambda: torch.float32)


@pytest.mark.skip("wants float32 under the name fp16; here a variant is what its name says")
def _variants_are_what_they_are_called(self):
    pass


class Layout:
    kind = "grid"
    pipeline_class = ColorizationPipeline

    def get_dummy_components(self):
        return {
            "unet": tiny_unet(self.kind),
            "scheduler": OffsetCosineScheduler(prediction_type="v_prediction"),
        }

    def inputs(self, generator, output_type):
        return {
            "image": smooth_picture(32, 32),
            "num_inference_steps": 2,
            "processing_resolution": 16,
            "generator": generator,
            "output_type": output_type,
        }


class Common(Layout, testing.BasePipelineTesterConfig, testing.PipelineTesterMixin):
    required_input_params_in_call_signature = frozenset(["image"])
    batch_input_params = frozenset(["image"])
    optional_input_params = frozenset(
        ["num_inference_steps", "generator", "output_type", "return_dict"]
    )
    output_shape = (3, 32, 32)

    def get_dummy_inputs(self):
        return self.inputs(self.get_generator(0), "pt")

    @pytest.mark.skip("no prompt")
    def test_encode_prompt_works_in_isolation(self):
        pass

    test_loading_with_variants = _variants_are_what_they_are_called


@pytest.mark.skip("wants 0 for zeros, which in RGB are a grey whose chroma is 0.003 in float32")
def _grey_has_a_little_chroma(self):
    pass


for _kind in UNET_CONFIGS:
    _name = f"TestCommon{_kind.capitalize()}"
    globals()[_name] = type(_name, (Common,), {"kind": _kind})
TestCommonSeed.test_callback_inputs = _grey_has_a_little_chroma  # noqa: F821, made above


if find_spec("parameterized") and find_spec("requests_mock"):  # which the older tests import
    older = load("pipelines.test_pipelines_common")

    class OlderTests(Layout, older.PipelineTesterMixin, unittest.TestCase):
        kind = "hints"
        params = batch_params = frozenset(["image"])
        required_optional_params = frozenset(["num_inference_steps", "generator", "output_type"])
        test_xformers_attention = False
        test_loading_with_variants = _variants_are_what_they_are_called

        def get_dummy_inputs(self, device, seed=0):
            return self.inputs(torch.Generator("cpu").manual_seed(seed), "np")

    class OlderBatchNormTests(OlderTests):
        kind = "seed"
        test_callback_inputs = _grey_has_a_little_chroma
