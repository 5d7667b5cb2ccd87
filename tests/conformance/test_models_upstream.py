"""diffusers' own tests of models, run on each layout of the U-Net."""

import pytest
from conftest import UNET_CONFIGS, tiny_unet, unet_inputs
from upstream import load

from pipeline_colorize.core.unet import ColorizationUNet

testing = load("models.testing_utils")


class Layout(testing.BaseModelTesterConfig):
    kind = ""

    model_class = ColorizationUNet
    main_input_name = "sample"

    @property
    def output_shape(self):
        return tuple(self.get_dummy_inputs()["sample"].shape[1:])

    def get_init_dict(self):
        return dict(UNET_CONFIGS[self.kind])

    def get_dummy_inputs(self):
        sample, timestep, condition = unet_inputs(tiny_unet(self.kind), batch=2)
        return {"sample": sample, "timestep": timestep, "condition": condition}


class Common(Layout, testing.ModelTesterMixin, testing.MemoryTesterMixin):
    pass


class Training(Layout, testing.TrainingTesterMixin):
    def test_gradient_checkpointing_is_applied(self):
        super().test_gradient_checkpointing_is_applied(expected_set={"ColorizationUNet"})


for _kind in UNET_CONFIGS:
    for _base in (Common, Training):
        _name = f"Test{_base.__name__}{_kind.capitalize()}"
        globals()[_name] = type(_name, (_base,), {"kind": _kind})
pytestmark = pytest.mark.filterwarnings("ignore")
