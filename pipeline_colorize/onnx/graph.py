"""A model's folder as one ONNX file: the network, the sampling loop and the way to full size.

`docs/onnx.md` says what goes in and comes out. The graph is built node by node from the files of
the model, so neither torch nor diffusers is imported, and every node is one that the runtimes of
desktops and browsers know.
"""

import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from pipeline_colorize import __version__
from pipeline_colorize.core.agreement import (
    AGREEMENT_SHARPNESS,
    HINT_OVERRIDE,
    SECOND_LOOK_GAIN,
    TYPICAL_SPREAD,
)
from pipeline_colorize.core.colorimetry import (
    GAMUT_BISECTIONS,
    GAMUT_TOLERANCE,
    LAB_CURVE_EPSILON,
    LAB_OFFSET,
    LAB_SLOPE,
    LINEAR_SRGB_BELOW,
    RGB_TO_XYZ,
    WHITE_D65,
)
from pipeline_colorize.core.finishing import EVEN_VARIANCE, GUIDE_DETAIL, TEXTURE_HALF_POINT
from pipeline_colorize.core.hints import HINT_FADE
from pipeline_colorize.core.options import LEAST_CANDIDATES, SECOND_LOOK_CANDIDATES
from pipeline_colorize.core.sizes import ENOUGH_DETAIL, LONGEST_RATIO

from .files import INT8, graph_file, weights_file
from .runtime import FORMAT
from .schedule import ScheduleTable

OPSET = 18
# Weights use seven of their eight bits: processors without VNNI add pairs of products in 16 bits.
WEIGHT_LEVELS = 63
PRECISIONS = ("fp32", "fp16", "int8")
# By the name of a convolution: least and greatest value of what goes in, and of what comes out.
Ranges = Mapping[str, tuple[float, float, float, float]]


class Weights:
    """A safetensors file: its tensors, and where each of them lies.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path):
        self.path, self.arrays = path, load_file(path)
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            self._header = json.loads(file.read(size))
        self._start = 8 + size

    def place(self, name: str) -> tuple[int, int, int]:
        """Return the ONNX type of a tensor, and the offset and length of its bytes in the file."""
        entry = self._header[name]
        begin, end = entry["data_offsets"]
        kind = {"F16": TensorProto.FLOAT16, "F32": TensorProto.FLOAT}[entry["dtype"]]
        return kind, self._start + begin, end - begin


class Graph:
    """A graph that grows by one node a call; what `add` returns are names of tensors.

    Args:
        weights: the network's file of weights.
        precision: how weights are stored: one of `PRECISIONS`, or "external" for a graph that
            points into the file of weights.
        outer: the graph that this one is inside of.
        ranges: what goes into each convolution and comes out (`calibration.py`); those that are
            named compute with whole numbers.
    """

    def __init__(
        self,
        weights: "Weights",
        precision: str,
        outer: "Graph | None" = None,
        ranges: Ranges | None = None,
    ):
        self.file, self.weights, self.precision = weights, weights.arrays, precision
        self.ranges = ranges or {}
        # Numbers that have not been given yet, so that no name comes twice.
        self.numbers: Iterator[int] = outer.numbers if outer else itertools.count()
        self.used: set[str] = outer.used if outer else set()  # weights that have their place
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._known: dict[tuple, str] = {}

    def inner(self) -> "Graph":
        """Make an empty graph for a branch or a loop, which may use the tensors of this graph."""
        return Graph(self.file, self.precision, self, self.ranges)

    def name(self, of: str) -> str:
        """Return a name that no other tensor has."""
        return f"{of}_{next(self.numbers)}"

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes):
        """Append a node; returns its output, or a list where there are several."""
        names = [self.name(op.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value, dtype=np.float32) -> str:
        """Return a constant tensor; equal ones are kept once."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = self.name("constant")
            self.initializers.append(numpy_helper.from_array(array, self._known[key]))
        return self._known[key]

    def ints(self, *values: int) -> str:
        """Return a constant one-dimensional int64 tensor."""
        return self.constant(values, np.int64)

    def weight(self, name: str, shape: tuple[int, ...] | None = None) -> str:
        """Add a tensor of the network in float32, if need be in another shape; it counts as used.

        Vectors are stored in float32: they are small, and biases lose most by rounding.
        """
        self.used.add(name)
        if self.precision == "external":
            return self._external(name, shape or self.weights[name].shape)
        array = self.weights[name].astype(np.float32)
        array = array if shape is None else array.reshape(shape)
        if self.weights[name].ndim < 2 or self.precision == "fp32":
            return self.constant(array)
        if self.precision == "fp16":
            return self.add("Cast", self.constant(array, np.float16), to=TensorProto.FLOAT)
        scale = np.abs(array).max(axis=tuple(range(1, array.ndim)), keepdims=True) / 127
        scale = np.maximum(scale, np.finfo(np.float16).tiny)
        levels = self.constant(np.rint(array / scale), np.int8)
        return self.add("Mul", self.add("Cast", levels, to=TensorProto.FLOAT), self.constant(scale))

    def whole_weight(self, name: str, scale: np.ndarray) -> str:
        """Add a tensor of the network on whole multiples of `scale`, one for each channel.

        One that lies in the file of weights is rounded when the graph is loaded.
        """
        if self.precision == "external":
            factors = self.constant(scale), self.constant(np.zeros(len(scale)), np.int8)
            levels = self.add("QuantizeLinear", self.weight(name), *factors, axis=0)
        else:
            self.used.add(name)
            parts = scale.reshape(-1, *[1] * (self.weights[name].ndim - 1))
            levels = self.constant(np.rint(self.weights[name].astype(np.float32) / parts), np.int8)
        return self.add("DequantizeLinear", levels, self.constant(scale), axis=0)

    def _external(self, name: str, shape: tuple[int, ...]) -> str:
        """Return a tensor that lies in the file of weights.

        It belongs to the graph that uses it: runtimes prepare the weights of a loop beforehand
        only where they lie in it.
        """
        key = (name, shape)
        if key not in self._known:
            kind, offset, length = self.file.place(name)
            tensor = TensorProto(name=self.name("weight"), data_type=kind, dims=shape)
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": self.file.path.name, "offset": offset, "length": length}
            for entry, value in place.items():
                tensor.external_data.add(key=entry, value=str(value))
            self.initializers.append(tensor)
            self._known[key] = tensor.name
            if kind != TensorProto.FLOAT:
                self._known[key] = self.add("Cast", tensor.name, to=TensorProto.FLOAT)
        return self._known[key]

    def slice(self, x: str, axis: int, start: int, stop: int) -> str:
        """Cut `x` from `start` to `stop` along an axis."""
        return self.add("Slice", x, self.ints(start), self.ints(stop), self.ints(axis))

    def dim(self, x: str, axis: int) -> str:
        """Return the size of an axis, (1,) int64."""
        return self.add("Shape", x, start=axis, end=axis + 1)

    def build(self, name: str, inputs: list, outputs: list) -> onnx.GraphProto:
        """Return the graph with `outputs`, pairs of a tensor and its name and type outside."""
        for tensor, info in outputs:
            self.nodes.append(helper.make_node("Identity", [tensor], [info.name]))
        infos = [info for _, info in outputs]
        return helper.make_graph(self.nodes, name, inputs, infos, self.initializers)

    def branch(self, condition: str, then: "Graph", otherwise: "Graph", outputs: list) -> list[str]:
        """Add an `If`; `outputs` are (tensor of `then`, of `otherwise`, ONNX type, rank)."""
        graphs = {}
        for index, (key, graph) in enumerate([("then", then), ("else", otherwise)]):
            infos = [
                (one[index], tensor_info(graph.name("result"), one[2], [None] * one[3]))
                for one in outputs
            ]
            graphs[f"{key}_branch"] = graph.build(key, [], infos)
        names = self.add("If", condition, outputs=len(outputs), **graphs)
        return [names] if len(outputs) == 1 else names


def tensor_info(name: str, dtype: int, shape: list) -> onnx.ValueInfoProto:
    """Name, type and shape of a tensor."""
    return helper.make_tensor_value_info(name, dtype, shape)


# --- whole numbers -------------------------------------------------------------------------------


def _levels(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Scale and zero point of 256 levels over a range, which is widened to hold 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max(high - low, 1e-6) / 255)
    return scale, np.uint8(np.rint(-low / scale))


def rounded(g: Graph, x: str, low: float, high: float) -> str:
    """Round `x` to 256 levels between two values."""
    scale, zero = _levels(low, high)
    places = g.constant(scale), g.constant(zero, np.uint8)
    return g.add("DequantizeLinear", g.add("QuantizeLinear", x, *places), *places)


def whole_number_convolution(g: Graph, x: str, name: str, **attributes) -> str:
    """Add a convolution that runtimes compute in 8 bits: all around it is rounded to them."""
    low, high, low_after, high_after = g.ranges[name]
    weight = g.weights[f"{name}.weight"].astype(np.float32)
    bias, step = g.weights[f"{name}.bias"].astype(np.float32), _levels(low, high)[0]
    scale = np.maximum(np.abs(weight).max(axis=(1, 2, 3)) / WEIGHT_LEVELS, 1e-8)
    # A bias is a whole number of 32 bits, also where a channel has hardly any weights.
    scale = np.maximum(scale, np.abs(bias) / (step * 2**30))
    bias_scale = scale * step
    bias = np.rint(bias / bias_scale)
    g.used.add(f"{name}.bias")
    given = [
        rounded(g, x, low, high),
        g.whole_weight(f"{name}.weight", scale),
        g.add("DequantizeLinear", g.constant(bias, np.int32), g.constant(bias_scale), axis=0),
    ]
    return rounded(g, g.add("Conv", *given, **attributes), low_after, high_after)


# --- layers --------------------------------------------------------------------------------------


def convolution(g: Graph, x: str, name: str, **attributes) -> str:
    """Return a convolution that keeps the size, or divides it by its stride."""
    pad = g.weights[f"{name}.weight"].shape[2] // 2
    if name in g.ranges:
        return whole_number_convolution(g, x, name, pads=[pad] * 4, **attributes)
    weight, bias = g.weight(f"{name}.weight"), g.weight(f"{name}.bias")
    return g.add("Conv", x, weight, bias, pads=[pad] * 4, **attributes)


def clipped(g: Graph, x: str) -> str:
    """ReLU6."""
    return g.add("Clip", x, g.constant(0), g.constant(6))


def inverted_residual(g: Graph, x: str, name: str, stride: int) -> str:
    """Expansion, depthwise convolution and projection (unet.py, `InvertedResidual`)."""
    h = x
    if f"{name}.expand.weight" in g.weights:
        h = clipped(g, convolution(g, h, f"{name}.expand"))
    channels = g.weights[f"{name}.depthwise.weight"].shape[0]
    h = clipped(g, convolution(g, h, f"{name}.depthwise", strides=[stride] * 2, group=channels))
    projection = g.weights[f"{name}.project.weight"]
    previous = g.weights.get(f"{name}.expand.weight", projection).shape[1]
    h = convolution(g, h, f"{name}.project")
    return g.add("Add", x, h) if stride == 1 and previous == len(projection) else h


def linear(g: Graph, x: str, name: str) -> str:
    """Add a linear layer."""
    return g.add("Gemm", x, g.weight(f"{name}.weight"), g.weight(f"{name}.bias"), transB=1)


def silu(g: Graph, x: str) -> str:
    """Add x * sigmoid(x)."""
    return g.add("Mul", x, g.add("Sigmoid", x))


def normalise(g: Graph, x: str, groups: int) -> str:
    """Group normalisation (B, C, H, W) without its gain and bias."""
    ones, zeros = g.constant(np.ones(groups)), g.constant(np.zeros(groups))
    flat = g.add("Reshape", x, g.ints(0, groups, -1))
    flat = g.add("InstanceNormalization", flat, ones, zeros, epsilon=1e-5)
    return g.add("Reshape", flat, g.add("Shape", x))


def _column(g: Graph, name: str) -> str:
    """Return a vector of the network that is to multiply or shift channels."""
    return g.weight(name, (1, len(g.weights[name]), 1, 1))


def group_norm(g: Graph, x: str, name: str, groups: int) -> str:
    """Add group normalisation of (B, C, H, W), with gain and bias."""
    gained = g.add("Mul", normalise(g, x, groups), _column(g, f"{name}.weight"))
    return g.add("Add", gained, _column(g, f"{name}.bias"))


def timed_norm(g: Graph, x: str, name: str, groups: int, scale_shift: str) -> str:
    """Group normalisation, scaled by 1 + and shifted by what (1, 2C) says, in one pass."""
    column = g.add("Unsqueeze", scale_shift, g.ints(2, 3))
    scale, shift = g.add("Split", column, outputs=2, axis=1, num_outputs=2)
    scale = g.add("Add", scale, g.constant(1))
    gain = g.add("Mul", scale, _column(g, f"{name}.weight"))
    bias = g.add("Add", g.add("Mul", scale, _column(g, f"{name}.bias")), shift)
    return g.add("Add", g.add("Mul", normalise(g, x, groups), gain), bias)


def residual_block(g: Graph, x: str, name: str, groups: int, embedding: str | None) -> str:
    """Add a residual block, with the embedding of the timestep where it has one."""
    h = convolution(g, silu(g, group_norm(g, x, f"{name}.norm1", groups)), f"{name}.conv1")
    if embedding is None:
        h = group_norm(g, h, f"{name}.norm2", groups)
    else:
        h = timed_norm(g, h, f"{name}.norm2", groups, linear(g, embedding, f"{name}.time"))
    h = convolution(g, silu(g, h), f"{name}.conv2")
    if f"{name}.shortcut.weight" in g.weights:
        x = convolution(g, x, f"{name}.shortcut")
    return g.add("Add", x, h)


def self_attention(g: Graph, x: str, name: str, groups: int) -> str:
    """Add self-attention over the pixels of (B, C, H, W)."""
    channels = g.weights[f"{name}.out.weight"].shape[0]
    heads = max(channels // 32, 1)
    size = channels // heads
    qkv = convolution(g, group_norm(g, x, f"{name}.norm", groups), f"{name}.qkv")
    # (B, 3C, H, W) -> 3 of (B, 1, heads, C/heads, H*W)
    qkv = g.add("Reshape", qkv, g.ints(0, 3, heads, size, -1))
    query, key, value = g.add("Split", qkv, outputs=3, axis=1, num_outputs=3)
    query = g.add("Transpose", query, perm=[0, 1, 2, 4, 3])
    scores = g.add("Mul", g.add("MatMul", query, key), g.constant(size**-0.5))
    share = g.add("Transpose", g.add("Softmax", scores, axis=-1), perm=[0, 1, 2, 4, 3])
    h = g.add("Reshape", g.add("MatMul", value, share), g.add("Shape", x))
    return g.add("Add", x, convolution(g, h, f"{name}.out"))


def level(
    g: Graph, x: str, name: str, groups: int, embedding: str | None, beside: str | None = None
) -> list[str]:
    """Run the blocks of one level one after the other; return what each of them gives.

    `beside` is added to what the first returns.
    """
    results: list[str] = []
    while True:
        block = f"{name}.{len(results)}"
        if f"{block}.qkv.weight" in g.weights:
            x = self_attention(g, x, block, groups)
        elif f"{block}.conv1.weight" in g.weights:
            x = residual_block(g, x, block, groups, embedding)
        else:
            return results
        if beside and not results:
            x = g.add("Add", x, beside)
        results.append(x)


def halve(g: Graph, x: str) -> str:
    """Add a mean over blocks of 2x2 pixels."""
    return g.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])


# --- the network ---------------------------------------------------------------------------------


def condition_channels(config: dict) -> list[int]:
    """Channels of what the network sees of the picture, one number for each level of the grid."""
    if config["encoder_block_out_channels"] is not None:
        return list(config["encoder_block_out_channels"])
    return [config["condition_channels"] * config["chroma_stride"] ** 2 + config["hint_channels"]]


def core(g: Graph, chroma: str, coring: float) -> str:
    """Faint chroma taken back (color.py, `core_chroma`)."""
    if not coring:
        return chroma
    power = g.add("ReduceSumSquare", chroma, g.ints(1), keepdims=1)
    return g.add("Mul", chroma, g.add("Div", power, g.add("Add", power, g.constant(coring**2))))


def undo_core(g: Graph, chroma: str, coring: float) -> str:
    """Return what `core` turns into `chroma` (color.py, `undo_coring`)."""
    if not coring:
        return chroma
    wanted = g.add("ReduceL2", chroma, g.ints(1), keepdims=1)
    third = g.add("Mul", wanted, g.constant(1 / 3))
    cube = g.add("Mul", g.add("Mul", third, third), third)
    rest = g.add("Mul", wanted, g.constant(coring**2 / 2))
    half = g.add("Add", cube, rest)
    root = g.add("Sqrt", g.add("Mul", rest, g.add("Add", cube, half)))
    root = g.add("Add", half, root)
    root = g.add("Pow", g.add("Max", root, g.constant(1e-12)), g.constant(1 / 3))
    needed = g.add("Add", g.add("Add", third, root), g.add("Div", g.add("Mul", third, third), root))
    return g.add("Mul", chroma, g.add("Div", needed, g.add("Max", wanted, g.constant(1e-12))))


def lift_texture(g: Graph, chroma: str, texture: float, influence: str | None) -> str:
    """Fine and faint variation made stronger (image_processor.py, `lift_texture`)."""
    if texture == 1:
        return chroma
    fine = g.add("Sub", chroma, box(g, box(g, chroma)))
    power = g.add("ReduceSumSquare", fine, g.ints(1), keepdims=1)
    share = g.constant((texture - 1) * TEXTURE_HALF_POINT**2)
    share = g.add("Div", share, g.add("Add", power, g.constant(TEXTURE_HALF_POINT**2)))
    if influence is not None:
        share = g.add("Mul", share, g.add("Sub", g.constant(1), influence))
    return g.add("Add", chroma, g.add("Mul", fine, share))


def given_colors(g: Graph, config: dict) -> str | None:
    """Return the input `hints` in the network's units; `None` where it takes none."""
    if not config["hint_channels"]:
        return None
    chroma = undo_core(g, g.slice("hints", 1, 0, 2), config["chroma_coring"])
    chroma = g.add("Mul", chroma, g.constant(1 / config["ab_scale"]))
    return g.add("Concat", chroma, g.slice("hints", 1, 2, 3), axis=1)


def meet_hints(g: Graph, hints: str | None, color: str) -> str:
    """Colour (N, 2, h, w) that has what hints give (image_processor.py, `meet_hints`)."""
    if hints is None:
        return color
    given, place = g.slice(hints, 1, 0, 2), g.slice(hints, 1, 2, 3)
    there = g.add("GreaterOrEqual", place, g.constant(1))  # others are left to the network
    place = g.add("Cast", there, to=TensorProto.FLOAT)
    fade, reach = HINT_FADE[None, None], [len(HINT_FADE) // 2] * 4
    missed = g.add("Mul", g.add("Sub", given, color), place)
    each = g.constant(np.repeat(fade, 2, 0))
    shift = g.add("Conv", missed, each, group=2, pads=reach)
    weight = g.add("Conv", place, g.constant(fade), pads=reach)
    shift = g.add("Div", shift, g.add("Max", weight, g.constant(1)))
    return g.add("Where", there, given, g.add("Add", color, shift))


def hint_influence(g: Graph, hints: str) -> str:
    """Return how far hints decide each cell's colour (hints.py, `hint_influence`)."""
    fade = g.constant(HINT_FADE[None, None])
    influence = g.add("Conv", g.slice(hints, 1, 2, 3), fade, pads=[len(HINT_FADE) // 2] * 4)
    return g.add("Min", influence, g.constant(1))


def trunk(g: Graph, config: dict, luminance: str) -> list[str]:
    """Feature maps of the luminance, a level each (unet.py, `Trunk`)."""
    scale, x = config.get("encoder_trunk_scale", 2), luminance
    if scale > 1:
        x = g.add("Resize", x, "", g.constant([1, 1, scale, scale]), mode="linear")
    x = clipped(g, convolution(g, x, "encoder.trunk.conv_in", strides=[2, 2]))
    ends: dict[int, str] = {}
    reached = 2
    for index, (_, _, _, blocks, stride) in enumerate(config["encoder_trunk"]):
        for block in range(blocks):
            name = f"encoder.trunk.stages.{index}.{block}"
            x = inverted_residual(g, x, name, stride if block == 0 else 1)
        reached *= stride
        ends[reached] = x
    maps: list[str] = []
    first = scale * config["chroma_stride"]
    for index in range(len(config["encoder_block_out_channels"])):
        reached = first * 2**index
        maps.append(ends[reached] if reached in ends else halve(g, maps[-1]))
    return maps


def encode(g: Graph, config: dict, luminance: str, hints: str | None) -> str:
    """Return all that depends on the picture alone, flat: (F,)."""
    x = g.add("Sub", g.add("Mul", luminance, g.constant(1 / 50)), g.constant(1))
    maps = trunk(g, config, x) if config.get("encoder_trunk") else None
    if config["chroma_stride"] > 1:
        x = g.add("SpaceToDepth", x, blocksize=config["chroma_stride"])
    if hints is not None:
        x = g.add("Concat", x, hints, axis=1)
    features = [x]
    if config["encoder_block_out_channels"] is not None:
        features, x = [], convolution(g, x, "encoder.conv_in")
        for index in range(len(config["encoder_block_out_channels"])):
            x = x if index == 0 else halve(g, x)
            beside = None
            if maps:
                beside = convolution(g, maps[index], f"encoder.projections.{index}")
            name = f"encoder.levels.{index}"
            x = level(g, x, name, config["norm_num_groups"], None, beside)[-1]
            features.append(x)
    flat = [g.add("Reshape", feature, g.ints(-1)) for feature in features]
    return g.add("Concat", *flat, axis=0)


def unpack(g: Graph, config: dict, features: str, sample: str) -> list[str]:
    """Unpack `encode`'s result to feature maps, repeated for each sample."""
    channels = condition_channels(config)
    batch = g.dim(sample, 0)
    grid = g.add("Shape", sample, start=2, end=4)
    shapes = []
    for index, count in enumerate(channels):
        size = g.add("Div", grid, g.ints(2**index))
        shapes.append(g.add("Concat", g.ints(1, count), size, axis=0))
    sizes = [g.add("ReduceProd", shape, keepdims=1) for shape in shapes]
    parts = [features]
    if len(channels) > 1:
        lengths = g.add("Concat", *sizes, axis=0)
        parts = g.add("Split", features, lengths, outputs=len(channels), axis=0)
    repeat = g.add("Concat", batch, g.ints(1, 1, 1), axis=0)
    return [
        g.add("Expand", g.add("Reshape", part, shape), repeat)
        for part, shape in zip(parts, shapes, strict=True)
    ]


def embed_time(g: Graph, config: dict, timestep: str) -> str:
    """Timestep (1, 1) to its embedding (1, D)."""
    frequencies = np.exp(-np.float32(math.log(10000)) * np.arange(32, dtype=np.float32) / 32)
    scaled = g.constant(frequencies[None] * np.float32(1000 / config["num_train_timesteps"]))
    angles = g.add("Mul", timestep, scaled)
    x = g.add("Concat", g.add("Sin", angles), g.add("Cos", angles), axis=1)
    x = silu(g, linear(g, x, "time_proj.mlp.0"))
    return silu(g, linear(g, x, "time_proj.mlp.2"))


def predict(g: Graph, config: dict, sample: str, timestep: str, features: list[str]) -> str:
    """Predict by the network, as the scheduler's `prediction_type` says."""
    groups, widths = config["norm_num_groups"], config["block_out_channels"]
    embedding = embed_time(g, config, timestep)
    maps: list[str | None] = [*features]
    if config["encoder_block_out_channels"] is None:
        sample = g.add("Concat", sample, features[0], axis=1)
        maps = [None] * len(widths)
    h = convolution(g, sample, "conv_in")
    skips = []
    for index, feature in enumerate(maps[:-1]):
        h = h if feature is None else g.add("Concat", h, feature, axis=1)
        results = level(g, h, f"down_blocks.{index}", groups, embedding)
        skips += results
        h = halve(g, results[-1])
    h = h if maps[-1] is None else g.add("Concat", h, maps[-1], axis=1)
    h = level(g, h, "mid_block", groups, embedding)[-1]
    for index in range(len(widths) - 1):
        h = g.add("Resize", h, "", g.constant([1, 1, 2, 2]), mode="linear")
        for block in range(config["layers_per_block"]):
            h = g.add("Concat", h, skips.pop(), axis=1)
            h = residual_block(g, h, f"up_blocks.{index}.{block}", groups, embedding)
    return convolution(g, h, "conv_out")


# --- sampling ------------------------------------------------------------------------------------


def estimate(g: Graph, scheduler: dict, output: str, sample: str, signal: str, rate: str) -> str:
    """Find the clean sample that a prediction stands for (scheduler.py, `clean_estimate`)."""
    kind, clean = scheduler["prediction_type"], output
    if kind == "epsilon":
        clean = g.add("Div", g.add("Sub", sample, g.add("Mul", rate, output)), signal)
    elif kind == "v_prediction":
        clean = g.add("Sub", g.add("Mul", signal, sample), g.add("Mul", rate, output))
    if scheduler["clip_sample"]:
        most = scheduler["clip_sample_range"]
        clean = g.add("Clip", clean, g.constant(-most), g.constant(most))
    return clean


def one_step(
    outer: Graph, config: dict, scheduler: dict, features: list[str], hints: str | None
) -> onnx.GraphProto:
    """Return the loop's body: from one noise level to the next (scheduler.py, `step`)."""
    g = outer.inner()
    index, going, sample = (g.name(name) for name in ("index", "going", "sample"))
    row = g.add("Gather", "schedule", index, axis=0)
    timestep, *rates = (g.slice(row, 0, column, column + 1) for column in range(6))
    signal, rate, next_signal, direction, sigma = rates
    timestep = g.add("Reshape", timestep, g.ints(1, 1))
    output = predict(g, config, sample, timestep, features)
    clean = estimate(g, scheduler, output, sample, signal, rate)
    noise = g.add("Div", g.add("Sub", sample, g.add("Mul", signal, clean)), rate)
    fresh = g.add("Mul", sigma, g.add("Gather", "noise", index, axis=0))
    mixed = g.add("Add", g.add("Mul", next_signal, clean), g.add("Mul", direction, noise))
    later = g.add("Add", mixed, fresh)
    shown = meet_hints(g, hints, clean)
    inputs = [
        tensor_info(index, TensorProto.INT64, []),
        tensor_info(going, TensorProto.BOOL, []),
        tensor_info(sample, TensorProto.FLOAT, [None] * 4),
    ]
    outputs = [
        (going, tensor_info(g.name("on"), TensorProto.BOOL, [])),
        (later, tensor_info(g.name("later"), TensorProto.FLOAT, [None] * 4)),
        (shown, tensor_info(g.name("clean"), TensorProto.FLOAT, [None] * 4)),
    ]
    return g.build("step", inputs, outputs)


def sampling(outer: Graph, config: dict, scheduler: dict, hints: str | None) -> list[str]:
    """Sample, its clean estimates and features; nothing is done where the schedule is empty."""
    steps = outer.dim("schedule", 0)
    some = outer.add("Squeeze", outer.add("Greater", steps, outer.ints(0)))
    new = outer.add("Equal", outer.add("Size", "features"), outer.constant(0, np.int64))
    then, otherwise = outer.inner(), outer.inner()

    fresh, ready = then.inner(), then.inner()
    encoded = encode(fresh, config, "luminance", hints)
    ready_features = ready.add("Identity", "features")
    outputs = [(encoded, ready_features, TensorProto.FLOAT, 1)]
    features = then.branch(new, fresh, ready, outputs)[0]
    maps = unpack(then, config, features, "sample")
    body = one_step(then, config, scheduler, maps, hints)
    count, on = then.add("Squeeze", steps), then.constant(True, bool)
    sample, estimates = then.add("Loop", count, on, "sample", outputs=2, body=body)

    untouched = [otherwise.add("Identity", name) for name in ("sample", "noise", "features")]
    done = [sample, estimates, features]
    kinds = [(TensorProto.FLOAT, rank) for rank in (4, 5, 1)]
    pairs = [(*both, *kind) for *both, kind in zip(done, untouched, kinds, strict=True)]
    return outer.branch(some, then, otherwise, pairs)


# --- full size -----------------------------------------------------------------------------------


def cubic(g: Graph, distance: str) -> str:
    """Return the bicubic kernel, a = -0.75 as in torch, at a distance in cells."""
    x = g.add("Abs", distance)
    near = g.add("Sub", g.add("Mul", x, g.constant(1.25)), g.constant(2.25))
    near = g.add("Add", g.add("Mul", g.add("Mul", near, x), x), g.constant(1))
    # a (x^3 - 5x^2 + 8x - 4) = a (x - 1) (x - 2)^2, and 0 from 2 on
    rest = g.add("Max", g.add("Sub", g.constant(2), x), g.constant(0))
    far = g.add("Mul", g.add("Mul", rest, rest), g.add("Sub", x, g.constant(1)))
    far = g.add("Mul", far, g.constant(-0.75))
    return g.add("Where", g.add("Less", x, g.constant(1)), near, far)


def _range(g: Graph, start: str, count: str) -> str:
    """Make `count` whole numbers from `start` on, both (1,) int64, as floats."""
    first, last = g.add("Squeeze", start), g.add("Squeeze", g.add("Add", start, count))
    whole = g.add("Range", first, last, g.constant(1, np.int64))
    return g.add("Cast", whole, to=TensorProto.FLOAT)


def interpolation(g: Graph, cells: str, start: str, count: str, size: str) -> str:
    """Matrix (count, cells + 4) of rows `start` on, of the `size` that `cells` are brought to.

    It takes cells with two repeated on either side.
    """
    place = g.add("Add", _range(g, start, count), g.constant(0.5))
    cells_float, size_float = (g.add("Cast", x, to=TensorProto.FLOAT) for x in (cells, size))
    place = g.add("Mul", place, g.add("Div", cells_float, size_float))
    place = g.add("Unsqueeze", g.add("Sub", place, g.constant(0.5)), g.ints(1))
    index = _range(g, g.ints(-2), g.add("Add", cells, g.ints(4)))
    return cubic(g, g.add("Sub", place, index))


def bring_up(g: Graph, x: str, down: str, across: str) -> str:
    """Bring (..., h, w) up by the matrices of both directions."""
    x = g.add("Pad", x, g.ints(0, 0, 2, 2, 0, 0, 2, 2), mode="edge")
    return g.add("MatMul", g.add("MatMul", down, x), across)


def box(g: Graph, x: str) -> str:
    """Mean over 3x3 cells."""
    x = g.add("Pad", x, g.ints(0, 0, 1, 1, 0, 0, 1, 1), mode="edge")
    return g.add("AveragePool", x, kernel_shape=[3, 3])


def pool(g: Graph, x: str) -> str:
    """Mean of each cell, of what has the guide's size."""
    return g.add("AveragePool", x, kernel_shape=[GUIDE_DETAIL] * 2, strides=[GUIDE_DETAIL] * 2)


def fit_guide(g: Graph, chroma: str, guide: str) -> tuple[str, str]:
    """Slope and offset (2, N, h, w) of the guided upsampling (image_processor.py)."""
    mean = pool(g, guide)
    box_mean, box_chroma = box(g, mean), box(g, chroma)
    variance = g.add("Sub", box(g, g.add("Mul", mean, mean)), g.add("Mul", box_mean, box_mean))
    covariance = box(g, g.add("Mul", mean, chroma))
    covariance = g.add("Sub", covariance, g.add("Mul", box_mean, box_chroma))
    slope = g.add("Div", covariance, g.add("Add", variance, g.constant(EVEN_VARIANCE)))
    offset = box(g, g.add("Sub", box_chroma, g.add("Mul", slope, box_mean)))
    slope = box(g, slope)
    height, width = (g.dim(guide, axis) for axis in (2, 3))
    rows, columns = (g.dim(chroma, axis) for axis in (2, 3))
    down = interpolation(g, rows, g.ints(0), height, height)
    across = g.add("Transpose", interpolation(g, columns, g.ints(0), width, width), perm=[1, 0])
    missing = g.add("Sub", chroma, pool(g, g.add("Mul", bring_up(g, slope, down, across), guide)))
    for _ in range(2):
        left = g.add("Sub", missing, pool(g, bring_up(g, offset, down, across)))
        offset = g.add("Add", offset, left)
    return slope, offset


def to_linear(g: Graph, curve: str) -> str:
    """f(X), f(Y), f(Z) of Lab (3, P) to linear RGB."""
    cube = g.add("Mul", g.add("Mul", curve, curve), curve)
    line = g.add("Mul", g.add("Sub", curve, g.constant(LAB_OFFSET)), g.constant(1 / LAB_SLOPE))
    xyz = g.add("Where", g.add("Greater", curve, g.constant(LAB_CURVE_EPSILON)), cube, line)
    return g.add("MatMul", g.constant(np.linalg.inv(RGB_TO_XYZ) * WHITE_D65), xyz)


def excess(g: Graph, linear_rgb: str) -> str:
    """By how much colours (3, P) miss the gamut, (P,); 0 and below is inside."""
    under = g.add("Sub", g.constant(-GAMUT_TOLERANCE / 12.92), linear_rgb)
    over = g.add("Sub", linear_rgb, g.constant(1 + GAMUT_TOLERANCE))
    # Not by ReduceMax, which in WebGPU takes no empty tensor: there may be no pixel to bring in.
    rows = g.add("Split", g.add("Max", under, over), outputs=3, axis=0, num_outputs=3)
    return g.add("Squeeze", g.add("Max", *rows), g.ints(0))


def fit_gamut(g: Graph, light: str, delta: str) -> str:
    """Linear RGB (3, P) of f(Y) (1, P) and chroma's share of the curve (3, P), within the gamut.

    Those outside get less chroma, by bisection (color.py, `fit_gamut`).
    """
    rgb = to_linear(g, g.add("Add", light, delta))
    outside = g.add("Greater", excess(g, rgb), g.constant(0))
    places = g.add("Reshape", g.add("NonZero", outside), g.ints(-1))
    light, delta = (g.add("Gather", x, places, axis=1) for x in (light, delta))

    def scaled(factor: str) -> str:
        return to_linear(g, g.add("Add", light, g.add("Mul", delta, factor)))

    low = g.add("Mul", light, g.constant(0))
    for bit in range(1, GAMUT_BISECTIONS + 1):
        middle = g.add("Add", low, g.constant(0.5**bit))
        fits = g.add("LessOrEqual", excess(g, scaled(middle)), g.constant(0))
        low = g.add("Where", fits, middle, low)
    shape = g.add("Concat", g.ints(3), g.dim(places, 0), axis=0)
    return g.add("ScatterElements", rgb, g.add("Expand", places, shape), scaled(low), axis=1)


def to_srgb(g: Graph, linear_rgb: str) -> str:
    """Apply the transfer curve, within [0, 1]; logarithm and exponential beat a power."""
    power = g.add("Log", g.add("Max", linear_rgb, g.constant(LINEAR_SRGB_BELOW)))
    power = g.add("Exp", g.add("Mul", power, g.constant(1 / 2.4)))
    curve = g.add("Sub", g.add("Mul", power, g.constant(1.055)), g.constant(0.055))
    line = g.add("Mul", linear_rgb, g.constant(12.92))
    bright = g.add("Greater", linear_rgb, g.constant(LINEAR_SRGB_BELOW))
    return g.add("Clip", g.add("Where", bright, curve, line), g.constant(0), g.constant(1))


def merge(g: Graph, chroma: str) -> tuple[str, str]:
    """Rows of L* and chroma (N, 2, h, w) to sRGB: bytes (N, R, W, 3), floats (N, 3, R, W)."""
    chroma = g.add("Transpose", chroma, perm=[1, 0, 2, 3])
    slope, offset = fit_guide(g, chroma, "guide")
    cells_down, cells_across = (g.dim(chroma, axis) for axis in (2, 3))
    top, height = g.add("Split", "place", outputs=2, axis=0, num_outputs=2)
    rows, width = (g.dim("rows", axis) for axis in (2, 3))
    down = interpolation(g, cells_down, top, rows, height)
    across = interpolation(g, cells_across, g.ints(0), width, width)
    both = g.add("Concat", slope, offset, axis=0)
    both = bring_up(g, both, down, g.add("Transpose", across, perm=[1, 0]))
    slope, offset = g.add("Split", both, outputs=2, axis=0, num_outputs=2)
    full = g.add("Add", g.add("Mul", slope, "rows"), offset)  # (2, N, R, W)
    shape = g.add("Shape", full, start=1)

    a, b = g.add("Split", full, outputs=2, axis=0, num_outputs=2)
    a, b = g.add("Mul", a, g.constant(1 / 500)), g.add("Mul", b, g.constant(-1 / 200))
    delta = g.add("Concat", a, g.add("Mul", a, g.constant(0)), b, axis=0)
    light = g.add("Mul", g.add("Add", "rows", g.constant(16)), g.constant(1 / 116))
    light = g.add("Reshape", g.add("Expand", light, shape), g.ints(1, -1))
    rgb = to_srgb(g, fit_gamut(g, light, g.add("Reshape", delta, g.ints(3, -1))))
    rgb = g.add("Reshape", rgb, g.add("Concat", g.ints(3), shape, axis=0))
    levels = g.add("Round", g.add("Mul", rgb, g.constant(255)))
    levels = g.add("Cast", levels, to=TensorProto.UINT8)
    return (
        g.add("Transpose", levels, perm=[1, 2, 3, 0]),
        g.add("Transpose", rgb, perm=[1, 0, 2, 3]),
    )


def finishing(outer: Graph, config: dict, sample: str, hints: str | None) -> tuple[str, str, str]:
    """Finish chroma on the grid, and the rows that were asked for in sRGB."""
    sample = meet_hints(outer, hints, sample)
    cells = outer.add("Shape", "guide", start=2, end=4)
    cells = outer.add("Div", cells, outer.ints(GUIDE_DETAIL))
    some = outer.add("Max", cells, outer.ints(1))  # the edges of nothing cannot be repeated

    def crop(x: str, size: str) -> str:
        return outer.add("Slice", x, outer.ints(0, 0), size, outer.ints(2, 3))

    chroma = outer.add("Mul", crop(sample, some), outer.constant(config["ab_scale"]))
    influence = None if hints is None else crop(hint_influence(outer, hints), some)
    chroma = crop(lift_texture(outer, chroma, config["chroma_texture"], influence), cells)
    chroma = outer.add("Mul", core(outer, chroma, config["chroma_coring"]), "saturation")
    then, otherwise = outer.inner(), outer.inner()
    nothing = outer.constant(0, np.int64)
    wanted = outer.add("Greater", outer.add("Size", "rows"), nothing)
    levels, floats = merge(then, chroma)
    no_levels = otherwise.constant(np.zeros((0, 0, 0, 3)), np.uint8)
    no_floats = otherwise.constant(np.zeros((0, 3, 0, 0)))
    no_levels, no_floats = (otherwise.add("Identity", x) for x in (no_levels, no_floats))
    outputs = [
        (levels, no_levels, TensorProto.UINT8, 4),
        (floats, no_floats, TensorProto.FLOAT, 4),
    ]
    return chroma, *outer.branch(wanted, then, otherwise, outputs)


# --- the file ------------------------------------------------------------------------------------

_INPUTS: dict[str, tuple[int, list]] = {
    "luminance": (TensorProto.FLOAT, [1, 1, "height", "width"]),
    "hints": (TensorProto.FLOAT, [1, 3, "cells_down", "cells_across"]),
    "sample": (TensorProto.FLOAT, ["samples", 2, "cells_down", "cells_across"]),
    "noise": (TensorProto.FLOAT, ["steps", "samples", 2, "cells_down", "cells_across"]),
    "schedule": (TensorProto.FLOAT, ["steps", 6]),
    "features": (TensorProto.FLOAT, ["known"]),  # a name in files that have shipped
    "guide": (TensorProto.FLOAT, [1, 1, "guide_height", "guide_width"]),
    "rows": (TensorProto.FLOAT, [1, 1, "rows", "full_width"]),
    "place": (TensorProto.INT64, [2]),
    "saturation": (TensorProto.FLOAT, [1]),
}
_OUTPUTS: dict[str, tuple[int, list]] = {
    "rgb": (TensorProto.UINT8, ["samples", "rows_out", "width_out", 3]),
    "rgb_float": (TensorProto.FLOAT, ["samples", 3, "rows_out", "width_out"]),
    "chroma": (TensorProto.FLOAT, ["samples", 2, "chroma_down", "chroma_across"]),
    "next_sample": (TensorProto.FLOAT, ["samples", 2, "cells_down", "cells_across"]),
    "estimates": (TensorProto.FLOAT, ["steps", "samples", 2, "cells_down", "cells_across"]),
    "next_features": (TensorProto.FLOAT, ["known_out"]),
}


def read_model(folder: Path) -> tuple[dict[str, dict], Weights]:
    """Read the configurations by part ("pipeline", "unet", "scheduler") and the weights.

    Raises:
        ValueError: where the model cannot be written as ONNX, saying why.
    """
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    if (index.get("unet") or [None])[-1] != "ColorizationUNet":
        raise ValueError(f"{folder}: only a ColorizationUNet can be written as ONNX.")
    if (index.get("scheduler") or [None])[-1] != "OffsetCosineScheduler":
        raise ValueError(f"{folder}: only an OffsetCosineScheduler can be written as ONNX.")
    parts = {"pipeline": index}
    for part, name in (("unet", "config.json"), ("scheduler", "scheduler_config.json")):
        parts[part] = json.loads((folder / part / name).read_text("utf-8"))
    unet = parts["unet"]
    if unet["block"] != "scale_shift" or unet["sample_channels"] != 2:
        raise ValueError(f"{folder}: only models of chroma with `block='scale_shift'` can be ONNX.")
    if unet.get("encoder_backbone"):
        raise ValueError(f"{folder}: a pretrained `encoder_backbone` cannot be written as ONNX.")
    if unet["condition_channels"] != 1:
        raise ValueError(f"{folder}: `condition_channels` must be 1 to be written as ONNX.")
    return parts, Weights(weights_file(folder))


def properties(parts: dict[str, dict], steps: int | None = None) -> dict:
    """Collect the properties that a runtime needs beside the graph; see docs/onnx.md."""
    pipeline, unet, scheduler = parts["pipeline"], parts["unet"], parts["scheduler"]
    names = ("num_inference_steps", "processing_resolution", "eta", "temperature", "saturation")
    facts = {f"default_{name}": pipeline[f"default_{name}"] for name in names}
    facts["default_second_look"] = pipeline.get(
        "default_second_look", pipeline.get("default_refinement", 1.0)
    )
    facts["default_num_candidates"] = pipeline.get("default_num_candidates", 1)
    facts["chroma_balance"] = pipeline.get("chroma_balance", 0.0)
    facts["chroma_coring"] = pipeline.get("chroma_coring", 0.0)
    facts["chroma_texture"] = pipeline.get("chroma_texture", 1.0)
    if steps is not None:
        facts["default_num_inference_steps"] = steps
    rates = ("max_signal_rate", "min_signal_rate", "shift")
    kept = ("num_train_timesteps", *rates, "timestep_spacing")
    facts |= {name: scheduler[name] for name in kept}
    stride = unet["chroma_stride"]
    facts |= {
        "format": FORMAT,
        "chroma_stride": stride,
        "stride": stride * 2 ** (len(unet["block_out_channels"]) - 1),
        "longest": LONGEST_RATIO,
        "guide_detail": GUIDE_DETAIL,
        "agreement_sharpness": AGREEMENT_SHARPNESS,
        "typical_spread": TYPICAL_SPREAD,
        "hint_override": HINT_OVERRIDE,
        "hint_fade": HINT_FADE.tolist(),
        "second_look_gain": SECOND_LOOK_GAIN,
        "least_candidates": LEAST_CANDIDATES,
        "second_look_candidates": SECOND_LOOK_CANDIDATES,
        "hint_channels": unet["hint_channels"],
        "ab_scale": unet["ab_scale"],
    }
    if unet.get("doubtful_hints"):
        facts["doubtful_hints"] = True
    if stride > ENOUGH_DETAIL:
        facts["enough_detail"] = ENOUGH_DETAIL
    schedule = ScheduleTable(facts)
    how = facts["default_num_inference_steps"], facts["default_eta"]
    facts["schedule"] = schedule.rows(*how).tolist()
    facts["second_look_schedule"] = schedule.look_rows(*how, second_look=True).tolist()
    return facts


def export_model(
    folder: str | Path,
    precision: str = "fp16",
    steps: int | None = None,
    ranges: Ranges | None = None,
) -> onnx.ModelProto:
    """Write a model that lies in a folder as one ONNX model.

    Args:
        folder: as `save_pretrained` makes it.
        precision: of the stored weights: "fp32", "fp16" or "int8" (a scale for each channel); the
            computation is in float32 with all of them. With "external" the file holds the graph
            alone, which points into the model's own weights and has to lie beside them.
        steps: denoising steps where a runtime gets no number; `None` takes the model's.
        ranges: of the convolutions that are to compute in 8 bits (`calibration.py`).

    Raises:
        ValueError: where the model cannot be written as ONNX, saying why.
    """
    if precision not in (*PRECISIONS, "external"):
        raise ValueError(f"`precision` is one of {', '.join(PRECISIONS)}, not {precision!r}.")
    parts, weights = read_model(Path(folder))
    facts = properties(parts, steps)
    facts |= {"precision": precision, "weights": weights.digest}
    if ranges:
        facts["ranges"] = ranges
    if precision != "external":  # such a graph belongs to its folder, whatever that is called
        facts["model"] = Path(folder).resolve().name
    g = Graph(weights, precision, ranges=ranges)
    config = parts["unet"] | {name: facts[name] for name in ("chroma_coring", "chroma_texture")}
    hints = given_colors(g, config)
    sample, estimates, features = sampling(g, config, parts["scheduler"], hints)
    if unknown := sorted(weights.arrays.keys() - g.used):
        raise ValueError(f"{folder}: there is no ONNX for a network with {unknown[0]!r}.")
    chroma, levels, floats = finishing(g, config, sample, hints)
    results = [levels, floats, chroma, sample, estimates, features]
    infos = [tensor_info(name, *kind) for name, kind in _OUTPUTS.items()]
    inputs = [
        tensor_info(name, *kind)
        for name, kind in _INPUTS.items()
        if name != "hints" or facts["hint_channels"]
    ]
    graph = g.build("colorize", inputs, list(zip(results, infos, strict=True)))
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=10,
        producer_name="pipeline_colorize",
        # A graph beside weights stays what it is while only the version of the package changes.
        producer_version="" if precision == "external" else __version__,
    )
    helper.set_model_props(model, {name: json.dumps(value) for name, value in facts.items()})
    return model


def write_model(
    folder: Path,
    output: Path,
    precision: str = "fp16",
    steps: int | None = None,
    ranges: Ranges | None = None,
) -> onnx.ModelProto:
    """Write what `export_model` returns to a file, which appears whole or not at all."""
    return _write(export_model(folder, precision, steps, ranges), output)


def write_graph(folder: Path, ranges: Ranges | None = None) -> Path:
    """Write the graph of a model beside its weights, which it points into; returns the file.

    Args:
        folder: of the model.
        ranges: what `calibration.py` measured, for a graph that computes in 8 bits.

    Raises:
        ValueError: where the model cannot be written as ONNX, saying why.
    """
    file = graph_file(folder, INT8 if ranges else None)
    _write(export_model(folder, "external", ranges=ranges), file)
    return file


def stored_ranges(file: Path) -> Ranges:
    """Return the ranges that the file of a graph in 8 bits was written with."""
    return read_properties(onnx.load(file, load_external_data=False))["ranges"]


def _write(model: onnx.ModelProto, output: Path) -> onnx.ModelProto:
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        draft.write_bytes(model.SerializeToString())
        os.replace(draft, output)
    finally:
        draft.unlink(missing_ok=True)
    return model


def read_properties(model: onnx.ModelProto) -> dict:
    """Return the properties that are stored in a file; see docs/onnx.md."""
    return {entry.key: json.loads(entry.value) for entry in model.metadata_props}
