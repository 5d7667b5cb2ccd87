"""Train a colorization model. First form: one process, chroma-grid models."""

import dataclasses
import json
import math
import signal
import time
from pathlib import Path

import torch
from datasets import load_dataset
from transformers import HfArgumentParser

from pipeline_colorize import data
from pipeline_colorize.ema import ExponentialMovingAverage
from pipeline_colorize.objectives import denoising_loss
from pipeline_colorize.scheduler import OffsetCosineScheduler
from pipeline_colorize.unet import ColorizationUNet


@dataclasses.dataclass
class Config:
    output_dir: str = "runs/default"
    data: list[str] = dataclasses.field(default_factory=list)
    model: dict = dataclasses.field(default_factory=dict)
    scheduler: dict = dataclasses.field(default_factory=dict)
    batch_size: int = 64
    noise_levels: int = 2
    learning_rate: float = 6e-4
    lr_warmup_steps: int = 200
    lr_decay_steps: int = 1500
    max_train_steps: int = 20000
    adam_beta2: float = 0.99
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    checkpoint_minutes: float = 5
    validation_steps: int = 500


def load_pictures(path: str, split: str) -> torch.Tensor:
    pictures = load_dataset(path, split=split).with_format("torch")["image"]
    return torch.stack([picture for picture in pictures])


def make_batch(pictures, config, model_config, generator, train):
    lab = data.bytes_to_lab(pictures)
    if train:
        lab = data.flip_and_crop(lab, generator)
    luminance, chroma = lab[:, :1], lab[:, 1:]
    chroma = torch.nn.functional.avg_pool2d(chroma, model_config.chroma_stride)
    chroma = chroma / model_config.ab_scale
    hints = torch.zeros(len(lab), 3, *chroma.shape[2:])
    if train:
        luminance = data.degrade_luminance(luminance, generator)
        hints = data.random_hints(chroma, generator)
    condition = data.with_hints(data.luminance_to_input(luminance), hints)
    return {"condition": condition, "color": chroma}


@torch.no_grad()
def validate(model, scheduler, sets, config):
    result = {}
    for name, pictures in sets.items():
        generator = torch.Generator().manual_seed(0)
        batch = make_batch(pictures[:150], config, model.config, generator, False)
        with torch.autocast("cpu", torch.bfloat16):
            losses, timesteps = denoising_loss(model, scheduler, batch, generator, 4)
        result[name] = losses.mean().item()
    return result


def main():
    (config,) = HfArgumentParser(Config).parse_yaml_file(__import__("sys").argv[1])
    out = Path(config.output_dir)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    model = ColorizationUNet(**config.model).to(memory_format=torch.channels_last)
    scheduler = OffsetCosineScheduler(**config.scheduler)
    print(sum(p.numel() for p in model.parameters()), "parameters", flush=True)
    sets = [load_pictures(path, "train") for path in config.data]
    validation = {Path(p).name: load_pictures(p, "validation") for p in config.data}
    weights = torch.tensor([len(pictures) ** 0.5 for pictures in sets])
    sizes = torch.tensor([len(pictures) for pictures in sets])
    offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)[:-1]])
    pictures = torch.cat(sets)
    del sets
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=(0.9, config.adam_beta2),
        weight_decay=config.weight_decay,
        fused=True,
    )
    ema = ExponentialMovingAverage(model, config.ema_decay)
    step, seconds = 0, 0.0
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
        print("resumed at", step, flush=True)

    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    signal.signal(signal.SIGINT, lambda *_: stopping.append(1))

    def save():
        state = {
            "model": model.state_dict(),
            "ema": ema.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
            "seconds": seconds,
        }
        torch.save(state, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)

    model.train()
    saved, mean, started = time.time(), None, time.time()
    while step < config.max_train_steps and not stopping:
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        which = torch.multinomial(weights, config.batch_size, True, generator=generator)
        index = (torch.rand(config.batch_size, generator=generator) * sizes[which]).long()
        batch = make_batch(pictures[offsets[which] + index], config, model.config, generator, True)
        factor = min(1, (step + 1) / config.lr_warmup_steps)
        factor *= min(1, (config.max_train_steps - step) / config.lr_decay_steps)
        optimizer.param_groups[0]["lr"] = config.learning_rate * factor
        with torch.autocast("cpu", torch.bfloat16):
            losses, _ = denoising_loss(model, scheduler, batch, generator, config.noise_levels)
        loss = losses.mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        ema.update(model)
        step += 1
        if not math.isfinite(loss.item()):
            raise SystemExit(f"loss is {loss.item()} at step {step}")
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        seconds += time.time() - started
        started = time.time()
        if step % 20 == 0:
            line = {"step": step, "loss": round(mean, 4), "norm": round(norm.item(), 3)}
            line |= {"lr": optimizer.param_groups[0]["lr"], "minutes": round(seconds / 60, 2)}
            print(json.dumps(line), flush=True)
        if step % config.validation_steps == 0 or step == config.max_train_steps:
            result = validate(ema.model, scheduler, validation, config)
            print(json.dumps({"step": step, "validation": result}), flush=True)
        if time.time() - saved > 60 * config.checkpoint_minutes:
            save()
            saved = time.time()
    save()
    ema.model.save_pretrained(out / "unet")
    scheduler.save_pretrained(out / "scheduler")


if __name__ == "__main__":
    main()
