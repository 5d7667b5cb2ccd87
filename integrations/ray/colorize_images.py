"""Colours the photographs below an address on a Ray cluster, and writes them as parquet.

    python integrations/ray/colorize_images.py s3://bucket/album s3://bucket/color --workers 64

Each row of the result has the path of a photograph, its colours as a JPEG (`image`) and as a chroma
file (`chroma`), or what went wrong (`error`). Needs `pip install "ray[data]"` beside this package.
"""

import argparse
import dataclasses
import io

import numpy as np
import ray
from PIL import Image

from pipeline_colorize import ORTColorizationPipeline, apply_chroma, photo
from pipeline_colorize.archive.chroma import encode_chroma
from pipeline_colorize.archive.invention import invent_chroma
from pipeline_colorize.onnx.noise import TorchGenerator


class Colorizer:
    """Holds the engine in a Ray actor, and colours batches of encoded photographs."""

    def __init__(
        self,
        model: str = "default",
        seed: int = 0,
        variant: str | None = None,
        steps: int | None = None,
        candidates: int | None = None,
    ):
        self.pipe = ORTColorizationPipeline.from_pretrained(model, variant=variant)
        given = {"variant": variant, "steps": steps, "candidates": candidates}
        given = {name: value for name, value in given.items() if value is not None}
        self.settings = {"model": model, "seed": seed, **given}
        self.options = {"num_inference_steps": steps, "num_candidates": candidates}

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Colour the photographs of a batch, from columns `bytes` and `path`."""
        rows = [self.color(data) for data in batch["bytes"]]
        columns = {name: [row.get(name) for row in rows] for name in ("image", "chroma", "error")}
        return {"path": batch["path"], **{k: np.array(v, object) for k, v in columns.items()}}

    def color(self, data: bytes) -> dict[str, bytes | str]:
        """Colour one photograph; what is wrong with it is its own row's failure."""
        try:
            with photo.open_picture(io.BytesIO(data)) as opened:
                image = Image.fromarray(np.asarray(opened.convert("L")))
            generator = TorchGenerator().manual_seed(self.settings["seed"])
            [found] = invent_chroma(self.pipe, image, generator=generator, **self.options)
            chroma = dataclasses.replace(found, settings=self.settings)
            buffer = io.BytesIO()
            apply_chroma(image, chroma).save(buffer, "JPEG", quality=92)
            return {"image": buffer.getvalue(), "chroma": encode_chroma(chroma)}
        except (ValueError, OSError) as error:
            return {"error": str(error)}


def colorize(source: str, target: str, workers: int, **options) -> None:
    """Colour all photographs below `source` by so many actors of one core each."""
    beside = {"num_cpus": 0}  # else they would wait for ever where the actors hold all cores
    photographs = ray.data.read_binary_files(source, include_paths=True, ray_remote_args=beside)
    colored = photographs.map_batches(
        Colorizer,
        fn_constructor_kwargs=options,
        batch_size=8,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=workers),
    )
    colored.write_parquet(target, ray_remote_args=beside)


def main() -> None:
    """Colour what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", help="folder or address that Ray Data reads")
    parser.add_argument("target", help="folder or address for the parquet files")
    parser.add_argument("--workers", type=int, default=2, help="actors, one core each")
    parser.add_argument("--model", default="default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variant", choices=["int8"], help="compute in 8 bits: half the time")
    parser.add_argument("--steps", type=int, help="denoising steps; by default as the model has it")
    parser.add_argument("--candidates", type=int, help="colourings drawn for each photograph")
    colorize(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
