"""Releases: what goes up, what comes back, and what happens when the way there and back breaks.

The clients are the real ones, in processes of their own, against a Hub on loopback.
"""

import hashlib
import json
import os
import pickle
import re
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from click.testing import CliRunner
from conftest import smooth_picture, tiny_unet
from diffusers import UNet2DModel, UniPCMultistepScheduler
from hub_server import WRITER, Fault, HubServer, Repository, git_id
from huggingface_hub import ModelCard
from PIL import Image
from space_server import running_space

from pipeline_colorize import ColorizationPipeline, OffsetCosineScheduler
from pipeline_colorize.photo import read, read_mark

for name in ("accelerate", "datasets"):
    pytest.importorskip(name)
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import evaluate  # noqa: E402
import release  # noqa: E402
from releasing import building, checks  # noqa: E402

WRONG = f"hf_{secrets.token_hex(16)}"  # a token that the Hub does not know
TOKENS = (WRITER, WRONG)
NOTES = {
    "name": "tiny",
    "summary": "A network that has learned nothing.",
    "license": "other",
    "license_name": "research-only",
    "license_link": "LICENSE",
    "datasets": ["tester/pictures"],
    "terms": "The weights are for tests only.",
    "training_data": "None.",
    "recipe": "Random numbers.",
    "limits": "- All of them.",
}


# --- clients ------------------------------------------------------------------------------------

WORKER = """
import contextlib, io, json, os, sys, time
time.sleep = lambda seconds: None  # the clients wait between tries
answers, scope = sys.stdout, {}
for line in sys.stdin:
    output, error = io.StringIO(), None
    scope["result"] = None
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            exec(json.loads(line), scope)
        except BaseException as one:
            error = f"{type(one).__name__}: {one}"
    answer = {"result": scope["result"], "output": output.getvalue(), "error": error}
    print(json.dumps(answer), file=answers, flush=True)
"""
PREAMBLE = """
import numpy, os, torch
from click.testing import CliRunner
from pipeline_colorize import ColorizationPipeline
from pipeline_colorize import hub
def publish(folder, repo_id, message, **options):
    return hub.publish(folder, repo_id, message, hub.PublishOptions(**options))
def load(where, **options):
    pipe = ColorizationPipeline.from_pretrained(where, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe
def chroma(pipe):
    picture = numpy.linspace(0, 255, 32 * 32).reshape(32, 32).astype("uint8")
    generator = torch.Generator().manual_seed(0)
    return pipe(picture, 2, generator=generator, output_type="np").images[0].tolist()
def weights(pipe):
    return {n: t.tolist() for n, t in pipe.unet.state_dict().items()}
"""


class Client:
    """A process with the real clients that runs what it is sent, one thing after the other."""

    def __init__(self, environment: dict[str, str]):
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.seen = ""
        self.run(PREAMBLE)

    def attempt(self, code: str) -> dict:
        """What `code` leaves in `result`, what it printed, and its error."""
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        self.seen += f"{answer['output']}{answer['error']}{answer['result']}"
        return answer

    def run(self, code: str):
        answer = self.attempt(code)
        assert answer["error"] is None, answer
        return answer["result"]

    def command(self, script: str, *arguments) -> tuple[int, str]:
        """Exit code and output of a script's command."""
        texts = [str(argument) for argument in arguments]
        return self.run(
            f"import {script}; done = CliRunner().invoke({script}.main, {texts!r});"
            "result = [done.exit_code, done.output]"
        )


def base_environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "PYTHON"))}
    return kept | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def server():
    with HubServer() as server:
        yield server


@pytest.fixture
def hub(server):
    """The server, empty and well."""
    server.repositories, server.objects, server.faults, server.log = {}, {}, [], []
    return server


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def client(server, home, tmp_path_factory):
    environment = base_environment() | server.environment(home)
    environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'scripts'}"
    client = Client(environment)
    yield client
    client.process.stdin.close()
    client.process.wait()
    for token in TOKENS:  # in nothing that was printed, and in no file
        assert token not in client.seen
        files = [path for path in tmp_path_factory.getbasetemp().rglob("*") if path.is_file()]
        assert files and not any(token.encode() in path.read_bytes() for path in files)


# --- models -------------------------------------------------------------------------------------


def save_model(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    unet = tiny_unet("hints")
    if seed:
        with torch.no_grad():
            unet.conv_out.weight.normal_()
    scheduler = OffsetCosineScheduler(prediction_type="v_prediction")
    pipe = ColorizationPipeline(
        unet, scheduler, default_num_inference_steps=2, default_processing_resolution=32
    )
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """What scripts/evaluate.py says about a tiny model."""
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "pictures").mkdir()
    for seed in range(2):
        pixels = (smooth_picture(32, 32, seed).movedim(0, -1).numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{seed}.png")
    arguments = [
        "--model",
        save_model(folder / "model"),
        "--data",
        folder / "pictures",
        "--split",
        "train",
        "--samples",
        2,
        "--output",
        folder / "report",
    ]
    done = CliRunner().invoke(evaluate.main, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    return folder / "report"


@pytest.fixture(scope="module")
def with_card(tmp_path_factory, evaluation):
    """A model with all that `release.py card` writes."""
    folder = tmp_path_factory.mktemp("card")
    Image.linear_gradient("L").resize((48, 32)).save(folder / "gradient.png")
    notes = NOTES | {"previews": {str(folder / "gradient.png"): "A gradient"}}
    (folder / "notes.yaml").write_text(yaml.safe_dump(notes))
    model = save_model(folder / "model")
    arguments = ["card", model, "--notes", folder / "notes.yaml", "--evaluation", evaluation]
    done = CliRunner().invoke(release.main, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    return model


@pytest.fixture(scope="module")
def built(tmp_path_factory, with_card):
    folder = tmp_path_factory.mktemp("built") / "release"
    building.build_release(str(with_card), folder, "tester/model", "5GB")
    return folder


@pytest.fixture
def copy(built, tmp_path):
    """A release to spoil."""
    return Path(shutil.copytree(built, tmp_path / "copy"))


# --- what a release is --------------------------------------------------------------------------


def test_a_release_holds_what_it_should(built):
    names = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    assert names == {
        "model_index.json",
        "pipeline.py",
        "unet/config.json",
        "unet/unet.py",
        "unet/model.onnx",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "scheduler/scheduler_config.json",
        "scheduler/scheduler.py",
        "README.md",
        "LICENSE",
        "evaluation.json",
        "preview-gradient.jpg",
    }
    data = ModelCard.load(built / "README.md").data.to_dict()
    for key in ("license", "library_name", "pipeline_tag", "tags", "datasets", "metrics"):
        assert data[key]
    assert data["model-index"][0]["name"] == "tiny"
    text = (built / "README.md").read_text()
    assert 'DiffusionPipeline.from_pretrained("tester/model", trust_remote_code=True)' in text
    assert "tests only" in (built / "LICENSE").read_text()
    assert "Apache License" in (built / "LICENSE").read_text()
    mark = read_mark(read(built / "preview-gradient.jpg").xmp)
    assert mark["DigitalSourceType"].endswith("compositeWithTrainedAlgorithmicMedia")


def spoil_results(folder):
    card = folder / "README.md"
    card.write_text(card.read_text().replace("## Results\n", "## Results\n\nPSNR 99.9\n", 1))


def spoil_model_index(folder):
    card = ModelCard.load(folder / "README.md")
    card.data.eval_results[0].metric_value += 1
    card.save(folder / "README.md")


def spoil_graph(folder):
    file = folder / "unet" / "model.onnx"
    model = onnx.load(file, load_external_data=False)
    model.doc_string = "of another version"
    file.write_bytes(model.SerializeToString())


def edit(name, old, new):
    def change(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


SPOILED = {
    "unet/weights.bin is a pickle": write("unet/weights.bin", b"x"),
    "unet/extra.safetensors is a pickle": write("unet/extra.safetensors", pickle.dumps([1])),
    "notes.txt does not belong": write("notes.txt", b"x"),
    ".secret does not belong": write(".secret", b"x"),
    "preview-2.jpg does not belong": write("preview-2.jpg", b"x"),
    "unet/helper.py does not belong": write("unet/helper.py", b"x = 1"),
    "unet/model.onnx is not what this version writes": spoil_graph,
    "unet/model.onnx cannot be used": write("unet/model.onnx", b"x"),
    "safetensors is damaged": write("unet/diffusion_pytorch_model.safetensors", b"x" * 99),
    "There is no card": lambda folder: (folder / "README.md").unlink(),
    "There is no LICENSE": lambda folder: (folder / "LICENSE").unlink(),
    "no license in front": edit("README.md", "license: other\n", ""),
    'no section "Limits"': edit("README.md", "## Limits", "## Praise"),
    "there is no evaluation.json": lambda folder: (folder / "evaluation.json").unlink(),
    "has other results than": spoil_results,
    "model-index in front of README.md is not": spoil_model_index,
    "figures outside its results: 'PSNR of 31.2": edit("README.md", "None.", "PSNR of 31.2 dB"),
    "holds '/home/me/model'": edit("unet/config.json", "{", '{"from": "/home/me/model",'),
    "README.md holds 'From /home/me/x.": edit("README.md", "None.", "From /home/me/x."),
    "holds 'auto_map'": edit("model_index.json", "{", '{"auto_map": {},'),
    "pipeline.py imports pipeline_colorize.core.color": write(
        "pipeline.py", b"from pipeline_colorize.core.color import rgb_to_lab\n"
    ),
    "unet/unet.py imports .helper": write("unet/unet.py", b"from .helper import x\n"),
    "`_class_name` has to be": edit(
        "model_index.json", '[\n    "pipeline",\n    "ColorizationPipeline"\n  ]', '"X"'
    ),
}


@pytest.mark.parametrize("problem", SPOILED)
def test_the_check_refuses(problem, copy, monkeypatch):
    monkeypatch.setattr(checks, "check_loading", lambda folder: [])
    assert checks.check_release(copy) == []
    SPOILED[problem](copy)
    assert problem in "\n".join(checks.check_release(copy))


SHIPPED = sorted(
    path.parent.name for path in ROOT.glob("pipeline_colorize/models/*/model_index.json")
)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_is_fit_to_be_published(name, tmp_path):
    building.build_release(name, tmp_path / name, None, "10GB")
    assert checks.check_release(tmp_path / name) == []


def test_figures_need_an_evaluation(copy):
    (copy / "evaluation.json").unlink()
    card = ModelCard.load(copy / "README.md")
    card.data.eval_results = card.data.metrics = None
    card.text = (
        card.text.split("## Results")[0]
        + "## Training data"
        + card.text.split("## Training data")[1]
    )
    card.save(copy / "README.md")
    assert checks.check_card(copy) == []


@pytest.mark.slow
@pytest.mark.process
def test_the_check_sees_code_that_colours_otherwise(copy):
    edit("pipeline.py", "EVEN_VARIANCE = 20.0", "EVEN_VARIANCE = 90.0")(copy)
    problems = "\n".join(checks.check_release(copy))
    assert "Plain diffusers' result of the model" in problems
    assert "Plain diffusers' result of variant fp16" in problems
    edit("pipeline.py", "EVEN_VARIANCE = 90.0", "import this_is_missing")(copy)
    assert "imports this_is_missing" in "\n".join(checks.check_release(copy))


@pytest.mark.slow
@pytest.mark.process
def test_releases_of_other_parts(tmp_path):
    """A stock network with a swapped scheduler, and a one-pass model, which has none."""
    torch.manual_seed(0)
    stock = UNet2DModel(
        in_channels=3,
        out_channels=2,
        block_out_channels=(8,),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
    )
    swapped = UniPCMultistepScheduler.from_config(OffsetCosineScheduler().config)
    options = {"default_num_inference_steps": 2, "default_processing_resolution": 32}
    ColorizationPipeline(stock, swapped, **options).save_pretrained(tmp_path / "stock")
    ColorizationPipeline(tiny_unet("grid"), None, **options).save_pretrained(tmp_path / "one_pass")
    for name in ("stock", "one_pass"):
        assert checks.check_loading(tmp_path / name) == []
    assert [path.name for path in tmp_path.glob("stock/**/*.py")] == ["pipeline.py"]
    loaded = ColorizationPipeline.from_pretrained(tmp_path / "stock")
    assert type(loaded.scheduler) is UniPCMultistepScheduler


# --- there and back -----------------------------------------------------------------------------

CLEAN = """
import json, os, sys
import numpy, torch
from diffusers import DiffusionPipeline
try:
    DiffusionPipeline.from_pretrained("tester/model")
except ValueError as error:
    assert "custom code" in str(error), error
else:
    raise SystemExit("code ran unasked")
files = []
for variant in (None, "fp16"):
    cache = sys.argv[1] + str(variant)
    pipe = DiffusionPipeline.from_pretrained(
        "tester/model", variant=variant, trust_remote_code=True, cache_dir=cache
    )
    assert pipe.unet.dtype == torch.float32
    pipe.set_progress_bar_config(disable=True)
    picture = numpy.linspace(0, 255, 32 * 32).reshape(32, 32).astype("uint8")
    generator = torch.Generator().manual_seed(0)
    image = pipe(picture, 2, generator=generator, output_type="np").images[0]
    folder = [base for base, _, names in os.walk(cache) if "model_index.json" in names][0]
    names = [os.path.join(base, name) for base, _, names in os.walk(folder) for name in names]
    files.append([sorted(os.path.relpath(name, folder) for name in names), image.tolist()])
DiffusionPipeline.from_pretrained(folder, variant="fp16", trust_remote_code=True)
assert not any(name.startswith("pipeline_colorize") for name in sys.modules)
print(json.dumps(files))
"""


@pytest.fixture
def pushed(hub, client, with_card):
    code, output = client.command(
        "release", "push", with_card, "--repo-id", "tester/model", "--tag", "v1.0"
    )
    assert code == 0, output
    return hub


@pytest.mark.slow
@pytest.mark.process
def test_push_and_load_back(pushed, client, built, with_card, tmp_path):
    model = pushed.model()
    assert model.files == {
        ".gitattributes": model.files[".gitattributes"],
        **{p.relative_to(built).as_posix(): p.read_bytes() for p in built.rglob("*.*")},
        "LICENSE": (built / "LICENSE").read_bytes(),
    }
    assert model.tags == {"v1.0": model.order[-1]} and len(model.order) == 2

    # Again: nothing is sent and nothing changes.
    pushed.log.clear()
    code, output = client.command(
        "release", "push", with_card, "--repo-id", "tester/model", "--tag", "v1.0"
    )
    assert code == 0 and "nothing has changed" in output
    assert len(model.order) == 2 and not pushed.asked("/commit/|^PUT|preupload")

    # Plain diffusers, in a clean process with an empty cache and no token.
    environment = base_environment() | pushed.environment(tmp_path / "home", token=None)
    done = subprocess.run(
        [sys.executable, "-I", "-c", CLEAN, tmp_path / "cache"],
        env=environment,
        text=True,
        capture_output=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    full, half = json.loads(done.stdout.splitlines()[-1])
    assert full[0] == checks.fetched_files(built)
    assert half[0] == checks.fetched_files(built, "fp16")

    # Our class: bit for bit, first from the Hub and then from the cache while the Hub is down.
    code = f"""
options = {{"cache_dir": {str(tmp_path / "ours")!r}, "dtype": torch.float32}}
old = load({str(with_card)!r}, dtype=torch.float32)
new = load("tester/model", **options)
assert weights(old) == weights(new)
assert chroma(old) == chroma(new)
new.unet.to(memory_format=torch.contiguous_format)
result = chroma(new)
"""
    ours = client.run(code)
    assert np.abs(np.subtract(ours, full[1])).max() <= 1e-5
    assert 0 < np.abs(np.subtract(half[1], full[1])).max() < 0.05
    pushed.faults = [Fault(".", status=503)]
    assert client.run("result = weights(load('tester/model', **options)) == weights(old)")
    pushed.faults = [Fault(".", cut=0)]
    assert client.run("result = weights(load('tester/model', **options)) == weights(old)")
    pushed.log.clear()
    client.run("load('tester/model', local_files_only=True, **options)")
    client.run("""
import huggingface_hub.constants
huggingface_hub.constants.HF_HUB_OFFLINE = True  # as HF_HUB_OFFLINE=1 sets it
try: load("tester/model", **options)
finally: huggingface_hub.constants.HF_HUB_OFFLINE = False
""")
    assert pushed.log == []


def test_a_cache_that_shares_its_files(hub, client, built, tmp_path):
    """The client may keep files once for all models, behind a second link of another name."""
    client.run(f"publish({str(built)!r}, 'tester/model', 'x')")
    loading = f"load('tester/model', cache_dir={str(tmp_path)!r})"
    client.run(loading)
    (snapshot,) = tmp_path.glob("*/snapshots/*")
    blob = (snapshot / "unet" / "diffusion_pytorch_model.safetensors").resolve()
    shared = tmp_path / "blobs" / "ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(shared)
    client.run(loading)
    shared.write_bytes(shared.read_bytes()[:-1] + b"?")
    assert "arrived damaged" in client.attempt(loading)["error"]
    client.run(loading)


def test_versions(hub, client, built, tmp_path):
    other = Path(shutil.copytree(built, tmp_path / "other"))
    save_model(other, seed=1)
    loaded = f"load('tester/model', dtype=torch.float32, cache_dir={str(tmp_path / 'cache')!r}"
    client.run(f"publish({str(built)!r}, 'tester/model', 'first', tag='v1.0', replace=('*',))")
    client.run(f"old = weights({loaded}))")
    client.run(f"publish({str(other)!r}, 'tester/model', 'second', tag='v2.0', replace=('*',))")
    assert client.run(
        f"result = [old == weights({loaded}, revision=r)) for r in ('v1.0', 'v2.0', 'main')]"
    ) == [True, False, False]
    commits = list(hub.model().order)
    answer = client.attempt(f"publish({str(other)!r}, 'tester/model', 'third', tag='v1.0')")
    assert answer["error"].startswith("ValueError: tester/model has a version v1.0 already")
    # An old version again, under its own name: it is there, so nothing happens.
    assert client.run(f"result = publish({str(built)!r}, 'tester/model', 'x', tag='v1.0')") == [
        f"tester/model@{hub.model().tags['v1.0']}",
        False,
    ]
    assert hub.model().order == commits


@pytest.mark.slow
def test_shards_come_and_go(hub, client, with_card, tmp_path):
    building.build_release(str(with_card), tmp_path / "shards", None, "20KB")
    building.build_release(str(with_card), tmp_path / "whole", None, "5GB")
    shards = checks.fetched_files(tmp_path / "shards")
    assert "unet/diffusion_pytorch_model.safetensors.index.json" in shards
    assert len([name for name in shards if name.endswith(".safetensors")]) > 1
    for name, size in (("shards", len(shards)), ("whole", 7)):
        client.run(f"publish({str(tmp_path / name)!r}, 'tester/model', 'x', replace=('*',))")
        cache = str(tmp_path / f"cache-{name}")
        code = f"""
from diffusers import DiffusionPipeline
ours = load('tester/model', dtype=torch.float32, cache_dir={cache!r})
theirs = DiffusionPipeline.from_pretrained(
    'tester/model', trust_remote_code=True, cache_dir={cache!r}
)
result = weights(ours) == weights(theirs) == weights(load({str(with_card)!r}, dtype=torch.float32))
"""
        assert client.run(code)
        (snapshot,) = Path(cache).glob("*/snapshots/*")
        names = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*.*")]
        assert set(checks.fetched_files(tmp_path / name)) <= set(names)
        assert len(checks.fetched_files(tmp_path / name)) == size


def test_two_versions_in_one_process_run_their_own_code(client, built, tmp_path):
    first = Path(shutil.copytree(built, tmp_path / "first"))
    second = Path(shutil.copytree(built, tmp_path / "second"))
    # Of the same size, and likely of the same second, as bytecode caches compare.
    edit("pipeline.py", "EVEN_VARIANCE = 20.0", "EVEN_VARIANCE = 90.0")(second)
    for file, name in (("unet/unet.py", "UNet"), ("scheduler/scheduler.py", "Scheduler")):
        for folder, value in ((first, 1), (second, 2)):
            with open(folder / file, "a") as stream:
                stream.write(f"\n\nVERSION = {value}\n\n\n")
                stream.write("def version():\n    return VERSION\n\n\n")
                kind = "ColorizationUNet" if name == "UNet" else "OffsetCosineScheduler"
                stream.write(f"{kind}.version = lambda self: version()\n")
    code = f"""
from diffusers import DiffusionPipeline
def plain(folder):
    pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe
first = plain({str(first)!r})
before = chroma(first)
second = plain({str(second)!r})
after = chroma(second)
first.save_pretrained({str(tmp_path / "again")!r})
result = [
    [pipe.unet.version(), pipe.scheduler.version(), chroma(pipe) == before, chroma(pipe) == after]
    for pipe in (first, second, plain({str(first)!r}))
]
"""
    assert client.run(code) == [[1, 1, True, False], [2, 2, False, True], [1, 1, True, False]]
    for file in ("pipeline.py", "unet/unet.py", "scheduler/scheduler.py"):
        assert (tmp_path / "again" / file).read_text() == (first / file).read_text()


# --- push_to_hub --------------------------------------------------------------------------------


def test_push_to_hub_keeps_the_card_and_the_weights(hub, client, built):
    place = client.run(f"result = load({str(built)!r}).push_to_hub('tester/model', private=True)")
    assert place == f"tester/model@{hub.model().order[-1]}" and hub.model().private
    for name in ("README.md", "LICENSE", "evaluation.json", "preview-gradient.jpg", "pipeline.py"):
        assert hub.model().files[name] == (built / name).read_bytes()
    # The default type rounds on loading where the CPU has bfloat16; what is stored goes up.
    name = "unet/diffusion_pytorch_model.safetensors"
    assert hub.model().files[name] == (built / name).read_bytes()
    assert b"_name_or_path" not in b"".join(
        content for path, content in hub.model().files.items() if path.endswith(".json")
    )


def test_saving_can_push_too(hub, client, built, tmp_path):
    client.run(
        f"pipe = load({str(built)!r}, dtype=torch.float32)\n"
        f"pipe.save_pretrained({str(tmp_path / 'x')!r}, push_to_hub=True, private=True, "
        "repo_id='model')"
    )
    model = hub.model()
    assert model.private and model.files["README.md"] == (built / "README.md").read_bytes()


def test_push_to_hub_without_a_card(hub, client, tmp_path):
    model = save_model(tmp_path / "model")
    client.run(f"load({str(model)!r}).push_to_hub('new')")
    text = hub.model("tester/new").files["README.md"].decode()
    assert 'ColorizationPipeline.from_pretrained("tester/new")' in text
    # A card that is there stays; variants join the weights that are there.
    hub.model("tester/new").commit(hub.model("tester/new").files | {"README.md": b"# Mine\n"})
    client.run(f"load({str(model)!r}).unet.half()")
    client.run(
        f"pipe = load({str(model)!r}, dtype=torch.float16); "
        "pipe.push_to_hub('tester/new', variant='fp16')"
    )
    assert hub.model("tester/new").files["README.md"] == b"# Mine\n"
    names = {name for name in hub.model("tester/new").files if name.endswith("tensors")}
    assert names == {
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
    }


def test_a_model_of_the_hub_is_published_elsewhere_with_its_card(hub, client, built):
    client.run(f"publish({str(built)!r}, 'tester/model', 'x')")
    client.run("load('tester/model').push_to_hub('tester/second')")
    there = hub.model("tester/second").files
    for name in ("preview-gradient.jpg", "unet/diffusion_pytorch_model.safetensors"):
        assert there[name] == hub.model().files[name]
    # The card is the same, but for the lines that load the model.
    old, new = (one["README.md"].splitlines() for one in (hub.model().files, there))
    changed = [pair for pair in zip(old, new, strict=True) if pair[0] != pair[1]]
    assert len(changed) == 2
    assert all(b'from_pretrained("tester/second"' in line for _, line in changed)


def test_training_pushes_its_model_and_card(hub, client, tmp_path):
    (tmp_path / "pictures").mkdir()
    for seed in range(4):
        pixels = (smooth_picture(16, 16, seed).movedim(0, -1).numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{seed}.png")
    arguments = [
        "--config",
        ROOT / "configs" / "tiny.yaml",
        "--datasets",
        tmp_path / "pictures",
        "--output_dir",
        tmp_path / "run",
        "--resolution",
        16,
        "--max_train_steps",
        1,
        "--batch_size",
        2,
        "--push_to_hub",
        "true",
        "--hub_model_id",
        "tester/trained",
    ]
    client.run(f"import train_colorize; train_colorize.main({[str(one) for one in arguments]!r})")
    model = tmp_path / "run" / "model"
    files = {p.relative_to(model).as_posix(): p.read_bytes() for p in model.rglob("*.*")}
    there = {n: c for n, c in hub.model("tester/trained").files.items() if n != ".gitattributes"}
    cards = [ModelCard(one.pop("README.md").decode()) for one in (there, files)]
    assert cards[0].text == cards[1].text and "# tester/trained" in cards[0].text
    assert there == files


def test_training_leaves_no_graph_of_other_weights_and_keeps_a_written_card(hub, client, tmp_path):
    (tmp_path / "pictures").mkdir()
    for seed in range(4):
        pixels = (smooth_picture(16, 16, seed).movedim(0, -1).numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{seed}.png")
    before = {
        "README.md": b"# By hand\n",
        "model.onnx": b"old",
        "unet/model.onnx": b"old",
        "unet/diffusion_pytorch_model.fp16.safetensors": b"old",
        "notes.txt": b"kept",
    }
    hub.repositories["model", "tester/trained"] = repository = Repository()
    repository.commit(dict(before))
    settings = {
        "config": ROOT / "configs" / "tiny.yaml",
        "datasets": tmp_path / "pictures",
        "output_dir": tmp_path / "run",
        "resolution": 16,
        "max_train_steps": 1,
        "batch_size": 2,
        "push_to_hub": "true",
        "hub_model_id": "tester/trained",
    }
    argv = [str(one) for name, value in settings.items() for one in (f"--{name}", value)]
    client.run(f"import train_colorize; train_colorize.main({argv!r})")
    there = hub.model("tester/trained").files
    assert there["README.md"] == before["README.md"] and there["notes.txt"] == b"kept"
    assert not [name for name, content in there.items() if content == b"old"]
    assert "unet/diffusion_pytorch_model.safetensors" in there


def test_a_token_that_the_hub_does_not_take_is_found_before_training(hub, client, tmp_path):
    argv = ["--config", str(ROOT / "configs" / "tiny.yaml"), "--output_dir", str(tmp_path / "run")]
    argv += ["--datasets", str(ROOT / "space" / "examples" / "color"), "--push_to_hub", "true"]
    client.run(f"os.environ['HF_TOKEN'] = '{WRONG}'")
    answer = client.attempt(f"import train_colorize; train_colorize.main({argv!r})")
    client.run(f"os.environ['HF_TOKEN'] = '{WRITER}'")
    assert "run was not published: the Hub does not accept the token" in answer["error"]
    assert not (tmp_path / "run").exists()


def test_the_licence_of_a_base_model_goes_on_to_apply(copy, tmp_path):
    file = copy / "README.md"
    plain = file.read_text("utf-8")
    file.write_text(plain.replace("license:", "base_model: default\nlicense:", 1), "utf-8")
    (problem,) = checks.check_card(copy)
    assert "its base model default is under non-commercial-research" in problem
    (tmp_path / "notes.yaml").write_text(yaml.safe_dump(NOTES))
    arguments = ["card", str(copy), "--notes", str(tmp_path / "notes.yaml")]
    done = CliRunner().invoke(release.main, arguments)
    assert done.exit_code == 1 and "names another licence: its base model default" in done.output
    terms = {"license": "other", "license_name": "non-commercial-research"}
    (tmp_path / "notes.yaml").write_text(yaml.safe_dump(NOTES | terms))
    (copy / "evaluation.json").unlink()
    assert CliRunner().invoke(release.main, arguments).exit_code == 0
    assert ModelCard.load(file).data.to_dict()["base_model"] == ["default"]
    assert checks.check_card(copy) == []


# --- nothing runs -------------------------------------------------------------------------------


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (self.marker, "w"))


def test_no_code_of_a_repository_runs(hub, client, built, tmp_path):
    marker = str(tmp_path / "ran")
    files = {p.relative_to(built).as_posix(): p.read_bytes() for p in built.rglob("*.*")}
    code = f"open({marker!r}, 'w').close()\n".encode()
    hostile = pickle.dumps(Hostile(marker))
    for name in files:
        if name.endswith(".py"):
            files[name] = code
    files |= {"setup.py": code, "__init__.py": code, "unet/__init__.py": code}
    files |= {"unet/diffusion_pytorch_model.bin": hostile, "scheduler/x.pkl": hostile}
    files["unet/pipeline_colorize.core.unet.py"] = code
    hub.repositories["model", "evil/model"] = evil = Repository()
    evil.commit(files)
    cache = f"cache_dir={str(tmp_path / 'cache')!r}"
    client.run(f"load('evil/model', {cache})")
    client.run(f"load('evil/model', trust_remote_code=True, {cache})")
    local = tmp_path / "evil"
    for name, content in files.items():
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        (local / name).write_bytes(content)
    client.attempt(f"load({str(local)!r}, trust_remote_code=True)")
    # Without safetensors, diffusers would open the pickle.
    weights = [name for name in files if name.endswith(".safetensors")]
    for name in weights:
        del files[name]
        (local / name).unlink()
    evil.commit(files)
    for where in ("evil/model", str(local)):
        for more in ("", ", use_safetensors=None", ", use_safetensors=False"):
            answer = client.attempt(f"load({where!r}, {cache}{more})")
            assert answer["error"], answer
    assert not os.path.exists(marker)
    pickle.loads(hostile).close()  # the trap itself works
    assert os.path.exists(marker)


def test_classes_from_elsewhere_are_refused(copy):
    edit("model_index.json", '"unet",\n', '"antigravity",\n')(copy)
    with pytest.raises(ValueError, match="'antigravity', which is neither"):
        ColorizationPipeline.from_pretrained(copy, trust_remote_code=True)
    assert "antigravity" not in sys.modules


# --- faults -------------------------------------------------------------------------------------

COMMIT, PUT = "POST .*/commit/", "PUT /lfs/"
REFUSED = "does not accept the token"
PUSHES = {  # name: (faults, environment and repository, words of the error; None: it works)
    "wrong token": ([], {"HF_TOKEN": WRONG}, REFUSED),
    "no token": ([], {"HF_TOKEN": ""}, "there is no token"),
    "another's name": ([], {"repo": "other/model"}, "the token may not write there"),
    "too many requests": ([Fault("POST|PUT", status=429)], {}, "asks for a pause"),
    "500 on the way": ([Fault(COMMIT, status=500)], {}, "itself has a fault \\(500\\)"),
    "500 everywhere": ([Fault(".", status=500)], {}, "itself has a fault \\(500\\)"),
    "500 twice": (
        [
            Fault(p, status=500, times=2)
            for p in ("whoami", "GET /api/m", "create$", "preupload", "batch", PUT, COMMIT, "/tag/")
        ],
        {},
        None,
    ),
    "404": ([Fault(COMMIT, status=404)], {}, "no such"),
    "cut in a large file": ([Fault(PUT, cut=2000)], {}, "the connection to the Hub broke"),
    "cut in the commit": ([Fault(COMMIT, cut=100)], {}, "the connection to the Hub broke"),
    "cut once": ([Fault(PUT, cut=2000, times=1)], {}, None),
    "an answer lost": ([Fault(COMMIT, lose=True, times=1)], {}, None),
    "a corrupt byte": ([Fault(PUT, corrupt=True)], {}, "checksum|400"),
    "a bad card": ([Fault("validate-yaml", status=400)], {}, "Invalid metadata|400|README"),
}


@pytest.mark.parametrize("name", PUSHES)
@pytest.mark.parametrize("existing", [False, True])
def test_faults_while_pushing(name, existing, hub, client, built):
    faults, options, words = PUSHES[name]
    repo = options.get("repo", "tester/model")
    if existing:
        hub.repositories["model", repo] = Repository()
        hub.repositories["model", repo].commit({"kept.txt": b"as it was"})
    before = hub.model(repo) and list(hub.model(repo).order)
    hub.faults = [Fault(**vars(fault)) for fault in faults]
    token = options.get("HF_TOKEN", WRITER)
    answer = client.attempt(
        f"os.environ['HF_TOKEN'] = {token!r}\n"
        f"try: publish({str(built)!r}, {repo!r}, 'x', tag='v1', replace=('*',))\n"
        f"finally: os.environ['HF_TOKEN'] = '{WRITER}'"
    )
    hub.faults = []
    if words is None:
        assert answer["error"] is None, answer
        sent = {p.relative_to(built).as_posix() for p in built.rglob("*") if p.is_file()}
        assert set(hub.model(repo).files) - {".gitattributes"} == sent
        assert list(hub.model(repo).tags) == ["v1"]
        assert len(hub.model(repo).order) == 2 + existing
        return
    assert re.search(words, answer["error"]), answer
    assert "\n" not in answer["error"].strip() and "Bearer" not in answer["error"]
    assert (hub.model(repo) and hub.model(repo).order) == before  # no repository, or as it was


def test_the_command_says_it_in_a_line(hub, client, with_card, monkeypatch):
    client.run(f"os.environ['HF_TOKEN'] = '{WRONG}'")
    code, output = client.command("release", "push", with_card, "--repo-id", "tester/model")
    client.run(f"os.environ['HF_TOKEN'] = '{WRITER}'")
    assert code == 1 and REFUSED in output and "Traceback" not in output
    assert output.strip().splitlines()[-1].startswith("Error: tester/model was not published")
    assert hub.repositories == {}


def test_what_fails_the_check_does_not_go_up(hub, client, tmp_path):
    model = save_model(tmp_path / "model")  # has no card
    code, output = client.command("release", "push", model, "--repo-id", "tester/model")
    assert code == 1 and "There is no card" in output
    assert set(hub.log) == {"GET /api/whoami-v2"} and hub.repositories == {}


CDN, JSON, INFO = "GET /cdn/", "GET .*/resolve/.*config.json", "GET /api/models"
DOWNLOADS = {  # name: (faults, what is loaded, words of the error; None: it works)
    "no repository": ([], "'tester/nothing'", "RepositoryNotFoundError"),
    "no version": ([], "'tester/model', revision='v9'", "RevisionNotFoundError"),
    "too many requests": ([Fault(INFO, status=429)], "'tester/model'", "asks for a pause"),
    "500": ([Fault(INFO, status=500)], "'tester/model'", "500"),
    "500 in a file": ([Fault(CDN, status=500)], "'tester/model'", "500"),
    "500 twice": (
        [Fault(one, status=500, times=2) for one in (INFO, CDN, JSON)],
        "'tester/model'",
        None,
    ),
    "cut": ([Fault(CDN, cut=1000)], "'tester/model'", "connection to the Hub broke|size"),
    "cut once": ([Fault(CDN, cut=1000, times=1)], "'tester/model'", None),
    "a corrupt byte": ([Fault(CDN, corrupt=True)], "'tester/model'", "arrived damaged"),
    "a corrupt text": ([Fault(JSON, corrupt=True)], "'tester/model'", "arrived damaged"),
}


@pytest.mark.parametrize("name", DOWNLOADS)
def test_faults_while_loading(name, hub, client, built, tmp_path):
    faults, what, words = DOWNLOADS[name]
    client.run(f"publish({str(built)!r}, 'tester/model', 'x', tag='v1')")
    hub.faults = [Fault(**vars(fault)) for fault in faults]
    cache = tmp_path / "cache"
    answer = client.attempt(f"load({what}, cache_dir={str(cache)!r})")
    hub.faults = []
    if words is None:
        assert answer["error"] is None, answer
    else:
        assert re.search(words, answer["error"]), answer
    for blob in cache.glob("*/blobs/*"):  # whole or not there
        content = blob.read_bytes()
        assert blob.name in (git_id(content), hashlib.sha256(content).hexdigest())
    offline = client.attempt(f"load('tester/model', cache_dir={str(cache)!r}, local_files_only=1)")
    assert (offline["error"] is None) == (words is None)
    client.run(f"load('tester/model', cache_dir={str(cache)!r})")  # afterwards all is well


# --- data sets and the Space --------------------------------------------------------------------


def test_data_sets_make_the_round_trip(hub, client, tmp_path):
    (tmp_path / "source").mkdir()
    for seed in range(6):
        picture = smooth_picture(24, 24, seed).movedim(0, -1).numpy()
        Image.fromarray((picture * 255).astype(np.uint8)).save(tmp_path / f"source/{seed}.png")
    arguments = [
        tmp_path / "source",
        tmp_path / "pairs",
        "--size",
        16,
        "--splits",
        "train=4,test=2",
        "--push-to-hub",
        "tester/pairs",
    ]
    hub.faults = [Fault("PUT /lfs/", cut=1000)]
    code, output = client.command("prepare_dataset", *arguments)
    assert code == 1 and "Traceback" not in output and hub.repositories == {}
    assert "pairs is written, but tester/pairs was not published: the connection" in output
    hub.faults = []
    shutil.rmtree(tmp_path / "pairs")
    code, output = client.command("prepare_dataset", *arguments)
    assert code == 0, output
    files = hub.repositories["dataset", "tester/pairs"].files
    assert set(files) == {
        "README.md",
        "train-00000-of-00001.parquet",
        "test-00000-of-00001.parquet",
        ".gitattributes",
    }
    assert files["README.md"] == (tmp_path / "pairs" / "README.md").read_bytes()
    code = f"""
from datasets import load_dataset
def pixels(source, name):
    splits = load_dataset(source, cache_dir={str(tmp_path)!r} + name)
    return {{
        split: [[numpy.asarray(row[c]).tolist() for c in ("image", "gray")] for row in rows]
        for split, rows in splits.items()
    }}
local = pixels({str(tmp_path / "pairs")!r}, "local")
result = [local == pixels("tester/pairs", "hub"), [len(rows) for rows in local.values()]]
"""
    assert client.run(code) == [True, [4, 2]]
    assert "tester/none" in client.attempt("load_dataset('tester/none')")["error"]
    hub.faults = [Fault(".", cut=0)]  # while the Hub is down
    assert client.run("result = local == pixels('tester/pairs', 'hub')")


def test_a_space_is_its_folder_with_the_package(hub, client, with_card, tmp_path):
    with pytest.raises(ValueError, match="app.py is missing"):
        building.build_space(tmp_path, tmp_path / "out")
    (tmp_path / "app.py").write_text("import pipeline_colorize\n")
    (tmp_path / "README.md").write_text("---\nsdk: gradio\napp_file: app.py\n---\n")
    assert building.build_space(tmp_path, tmp_path / "out") == "gradio"
    names = {path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.rglob("out/**/*")}
    assert {"app.py", "pipeline_colorize/core/pipeline.py", "requirements.txt"} <= names
    assert not any("__pycache__" in name for name in names)
    assert "diffusers>=" in (tmp_path / "out" / "requirements.txt").read_text()
    client.run(
        f"publish({str(tmp_path / 'out')!r}, 'tester/model', 'x', repo_type='space', "
        "space_sdk='gradio')"
    )
    space = hub.repositories["space", "tester/model"]
    assert space.sdk == "gradio" and "pipeline_colorize/core/unet.py" in space.files


# Runs an app where our checkout cannot be imported, and says which package it uses.
ELSEWHERE = """
import runpy, sys
from pathlib import Path
checkout, app = sys.argv[1:]
sys.meta_path[:] = [one for one in sys.meta_path if "editable" not in f"{one}{one!r}".lower()]
sys.path[:] = [str(Path(app).parent), *(one for one in sys.path[1:] if one != checkout)]
sys.argv = [app]
import pipeline_colorize
print(pipeline_colorize.__file__)
runpy.run_path(app, run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.process
def test_the_space_that_goes_up_runs_by_itself(hub, client, with_card, home, tmp_path):
    pytest.importorskip("gradio")
    from gradio_client import Client as Visitor
    from gradio_client import handle_file

    arguments = [
        "release",
        "push",
        with_card,
        "--repo-id",
        "tester/model",
        "--space",
        "tester/demo",
    ]
    code, output = client.command(*arguments)
    assert code == 0 and "space tester/demo@" in output, output
    up = hub.repositories["space", "tester/demo"]
    assert up.sdk == "gradio"
    assert not [name for name in up.files if name.startswith(("browser/", "tests/"))]
    model = up.files["model.txt"].decode().strip()
    assert model == f"tester/model@{hub.model('tester/model').order[-1]}"
    app = tmp_path / "up" / "app.py"
    for name, content in up.files.items():
        (app.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (app.parent / name).write_bytes(content)

    cache, picture = tmp_path / "cache", tmp_path / "grandma.png"
    Image.fromarray(checks.sample_picture()).save(picture)
    settings = hub.environment(tmp_path / "home", token=None) | {
        "COLORIZE_KEEP_MINUTES": "0.15",
        "GRADIO_TEMP_DIR": str(cache),
        "OMP_NUM_THREADS": "1",
    }
    python = ("-c", ELSEWHERE, str(ROOT))
    with running_space(app, tmp_path / "log.txt", settings, python) as space:
        assert str(app.parent / "pipeline_colorize") in space.log.read_text()
        visitor = Visitor(space.url, verbose=False, download_files=tmp_path / "got")
        asked = {"photograph": handle_file(picture), "seed": 3, "api_name": "/colorize"}
        (file,) = visitor.predict(**asked)
        theirs = read(file)
        assert f"model={model}; seed=3" in read_mark(theirs.xmp)["AIPromptInformation"]
        pipe = ColorizationPipeline.from_pretrained(with_card)
        ours = pipe(read(picture).image, generator=torch.Generator().manual_seed(3)).images[0]
        assert np.abs(np.asarray(ours, int) - theirs.image).max() <= 1  # threads may differ
        code, output = client.command(*arguments)  # doing it again changes nothing
        assert code == 0 and output.count("was there already") == 2, output
        kept = time.monotonic() + 120
        while [*cache.rglob("*grandma*.png")] and time.monotonic() < kept:
            time.sleep(0.5)
        assert not [*cache.rglob("*grandma*.png")]  # neither what was given nor what was made
