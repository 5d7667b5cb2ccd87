"""Models on disk: loading without running their code, saving so that plain diffusers can open them.

`save_pretrained` writes `pipeline.py` with its siblings joined to it, so that the folder needs this
package no more. `release_code.py` joins them, and `hub.py` publishes; neither of them travels.
"""

import copy
import importlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import torch
from diffusers import DiffusionPipeline

# Whether this file is part of a release, in the hands of plain diffusers.
_RELEASED = "_SOURCE" in globals()
# Networks that are in another file of the package than unet.py; in a release, each is unet/unet.py.
_FILES = {"RegressionUNet": "regression_unet"}
# Names that options of the pipeline had in folders of earlier versions.
_RENAMED = {"default_refinement": "default_second_look"}
# What is written under the name of a variant.
_VARIANTS = {"fp16": torch.float16, "bf16": torch.bfloat16}


def native_dtype() -> torch.dtype:
    """bfloat16 where this CPU computes it natively, else float32."""
    capabilities = torch.backends.cpu.get_cpu_capability()
    native = "AMX" in capabilities or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def _home(module: str) -> ModuleType:
    """Return a module of the home package, which a release does without.

    It is imported by name, since diffusers refuses a file whose imports are not installed.
    """
    return importlib.import_module(f"{__name__.partition('.')[0]}.{module}")


def _travelling_source(module: ModuleType, file: Path) -> str:
    """Read the source of a module as a release holds it: as it came, or made anew."""
    if hasattr(module, "_SOURCE"):  # it came from a release
        return module._SOURCE
    home = module.__name__.partition(".")[0]
    return importlib.import_module(f"{home}.release_code").travelling_source(file)


def _without_local_path(file: Path) -> dict:
    """Read the configuration in a file, without the local path that diffusers puts there."""
    config = json.loads(file.read_text("utf-8"))
    config.pop("_name_or_path", None)
    return config


def _write_json(file: Path, config: dict) -> None:
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def _uncompiled(module):
    """Return the network or scheduler itself, where `torch.compile` stands before it."""
    return getattr(module, "_orig_mod", module)


class SavingMixin(DiffusionPipeline):
    """How `ColorizationPipeline` is loaded and saved."""

    unet: torch.nn.Module

    # --- loading ----------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs):
        """Load a model that ships (`"default"`), a folder, or a repository of the Hub.

        No code of the folder or repository is run, whatever `trust_remote_code` says, and nothing
        is unpickled. As in diffusers, apart from two things: without `dtype`, weights are bfloat16
        where the CPU computes that natively and float32 elsewhere; on a CPU, convolutions get
        channels-last weights, which are quicker there.

        Raises:
            ValueError: if there is no such folder or model, or it would need code of its own.
        """
        name = str(pretrained_model_name_or_path)
        if not _RELEASED:
            name = str(_home("registry").find_model(name))
            kwargs.pop("trust_remote_code", None)
        if kwargs.get("use_safetensors") is False:
            raise ValueError("`use_safetensors=False` would unpickle files, which can run code.")
        kwargs["use_safetensors"] = True
        rounded = "torch_dtype" not in kwargs and "dtype" not in kwargs
        if rounded:
            kwargs["dtype"] = native_dtype()
        pipe = super().from_pretrained(name, **kwargs)
        pipe.unet.to(memory_format=torch.channels_last)
        if rounded and "unet" not in kwargs:
            pipe._stored_variant = kwargs.get("variant") or ""
        return pipe

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs):
        """As in diffusers, with the network of another pipeline whatever its class.

        It is shared, and keeps its precision unless `dtype` says another.
        """
        parts = ("unet", "scheduler")
        shared = {name: one for name, one in pipeline.components.items() if name in parts}
        if "torch_dtype" not in kwargs:
            kwargs.setdefault("dtype", pipeline.dtype)
        return super().from_pipe(pipeline, **{**shared, **kwargs})

    @classmethod
    def load_config(cls, pretrained_model_name_or_path, **kwargs):
        """As in diffusers, with our classes for the files of the same name in the folder."""
        loaded = super().load_config(pretrained_model_name_or_path, **kwargs)
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        for old, new in _RENAMED.items():
            if old in config:
                config[new] = config.pop(old)
        if _RELEASED:  # diffusers itself brings the folder's code together
            return loaded
        for key in ("unet", "scheduler"):
            module, name = config.get(key) or (None, None)
            if module:
                config[key] = [cls._module_of(key, module, name), name]
        if isinstance(config.get("_class_name"), list):
            config["_class_name"] = config["_class_name"][1]
        return loaded

    @staticmethod
    def _module_of(key: str, module: str, name: str) -> str:
        """Return the module that a component's class is imported from: ours, or diffusers."""
        room = __name__.rpartition(".")[0]
        if module == key:
            module = f"{room}.{_FILES.get(name, key)}"
            importlib.import_module(module)
        if module.partition(".")[0] not in (room.partition(".")[0], "diffusers"):
            raise ValueError(
                f"The {key} is a {name} of {module!r}, which is neither of this package nor of "
                "diffusers. `DiffusionPipeline` of diffusers can load it, by running code that "
                "comes with it."
            )
        return module

    @classmethod
    def download(cls, pretrained_model_name, **kwargs) -> str:
        """Fetch a repository's configuration and weights, and nothing that could run.

        Every file is compared with its checksum.
        """
        if _RELEASED:
            return super().download(pretrained_model_name, **kwargs)
        names = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")
        options = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
        variant = f".{kwargs['variant']}" if kwargs.get("variant") else ""
        weights = [f"*_model{variant}.safetensors", f"*_model{variant}-*.safetensors"]
        return _home("hub").fetch(pretrained_model_name, ["*.json", *weights], options)

    # --- saving -----------------------------------------------------------------------------------

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        safe_serialization: bool = True,
        variant: str | None = None,
        push_to_hub: bool = False,
        **kwargs,
    ):
        """As in diffusers, which can open the folder without this package.

        Weights become safetensors, not pickles, whatever `safe_serialization` says. Those that
        `from_pretrained` only rounded, to what the CPU computes quickly, are written as they were
        stored. With the `variant` "fp16" or "bf16" they are written in that precision.
        """
        names = ("commit_message", "private", "token", "create_pr")
        options = {name: kwargs.pop(name) for name in names if name in kwargs}
        repo_id = kwargs.pop("repo_id", Path(save_directory).name)
        unet = self.unet
        self.unet = self._as_stored() if variant is None else self._as_variant(variant)
        try:
            super().save_pretrained(save_directory, variant=variant, **kwargs)
        finally:
            self.unet = unet
        if push_to_hub:
            self.push_to_hub(repo_id, variant=variant, **options)

    def _as_variant(self, variant: str):
        """Return the network in the precision that the variant names."""
        unet, dtype = _uncompiled(self.unet), _VARIANTS.get(variant)
        if dtype is None or unet.dtype == dtype:
            return unet
        return copy.deepcopy(unet).to(dtype)

    def _as_stored(self):
        """Return the network as its files hold it, where nothing but loading has changed it."""
        unet, variant = _uncompiled(self.unet), getattr(self, "_stored_variant", None)
        folder = unet.config.get("_name_or_path", "")
        if variant is None or unet.dtype != torch.bfloat16 or not os.path.isdir(folder):
            return unet
        stored = type(unet).from_pretrained(folder, variant=variant or None, use_safetensors=True)
        rounded = stored.state_dict()
        for name, tensor in unet.state_dict().items():
            if not torch.equal(rounded[name].to(tensor), tensor):
                return unet
        return stored

    def save_config(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs):
        """Write `model_index.json` and the code that plain diffusers needs to load the folder."""
        super().save_config(save_directory, push_to_hub=False, **kwargs)
        folder = Path(save_directory)
        index = _without_local_path(folder / self.config_name)
        index["_class_name"] = ["pipeline", type(self).__name__]
        for name in ("unet", "scheduler"):
            component = _uncompiled(getattr(self, name))
            module = sys.modules[type(component).__module__]
            if component is None or module.__name__.startswith("diffusers."):
                continue
            index[name] = [name, type(component).__name__]
            (folder / name).mkdir(parents=True, exist_ok=True)
            source = _travelling_source(module, Path(str(module.__file__)))
            (folder / name / f"{name}.py").write_text(source, "utf-8")
        pipeline = Path(__file__).with_name("pipeline.py")  # which a release has this file in
        source = _travelling_source(sys.modules[__name__], pipeline)
        (folder / "pipeline.py").write_text(source, "utf-8")
        _write_json(folder / self.config_name, index)
        for part in folder.glob("*/*config.json"):
            _write_json(part, _without_local_path(part))

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Publish the model: all of it in one commit, or nothing.

        The card, its pictures and the licence come from the folder that the model was loaded from.
        Where that has no card, a card in the repository stays; where there is none either, a short
        one is written. A copy of the pipeline that came with a release, without the package,
        publishes as diffusers does.

        Args:
            repo_id: "user/name"; the repository is made if there is none.
            options: `commit_message`, `private` (of a repository that is made), `token`,
                `create_pr`, and `variant`, which adds the weights under that name beside those
                that are there.

        Returns:
            "user/name@commit".

        Raises:
            OSError: one line about what went wrong; then nothing has been published.
        """
        if _RELEASED:
            return super().push_to_hub(repo_id, **options)
        return _home("hub").publish_pipeline(self, repo_id, **options)
