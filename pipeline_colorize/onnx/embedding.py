"""A graph and the weights that it points into, as one model in memory.

onnxruntime opens such a graph by itself, in less memory, but refuses weights behind a link, and
links are what the Hub's cache and the package manager uv make of files. The messages of ONNX that
matter here are declared below, with their field numbers in onnx.proto; protobuf keeps all other
fields as they are.
"""

import mmap
from functools import cache
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_MESSAGE = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
_BYTES = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
_STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
_INT32 = descriptor_pb2.FieldDescriptorProto.TYPE_INT32
_EXTERNAL = 1  # TensorProto.DataLocation
# Message: field, its number, its type, whether it is repeated.
_FIELDS = {
    "Model": [("graph", 7, "Graph", False)],
    "Graph": [("node", 1, "Node", True), ("initializer", 5, "Tensor", True)],
    "Node": [("attribute", 5, "Attribute", True)],
    "Attribute": [("g", 6, "Graph", False), ("graphs", 11, "Graph", True)],
    "Tensor": [
        ("raw_data", 9, _BYTES, False),
        ("external_data", 13, "Entry", True),
        ("data_location", 14, _INT32, False),
    ],
    "Entry": [("key", 1, _STRING, False), ("value", 2, _STRING, False)],
}


@cache
def _model_class():
    file = descriptor_pb2.FileDescriptorProto(name="weights.proto", package="weights")
    file.syntax = "proto2"
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            added = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if isinstance(kind, str):
                added.type, added.type_name = _MESSAGE, f".weights.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("weights.Model"))


def _graphs(graph):
    """Yield a graph and all that its nodes hold."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.HasField("g") else attribute.graphs
            for one in inner:
                yield from _graphs(one)


def is_linked(file: Path) -> bool:
    """Tell whether a file is a symbolic link, or has another name by a hard one."""
    return file.is_symlink() or file.stat().st_nlink > 1


def embed_weights(file: Path) -> bytes:
    """Read an ONNX file, and put the weights that it points into in their places.

    Args:
        file: of the model; files that it points into lie beside it.

    Raises:
        ValueError: if it is no ONNX file.
    """
    try:
        model = _model_class().FromString(file.read_bytes())
    except Exception as error:  # protobuf's own, which differs between its versions
        raise ValueError(f"{file} is not an ONNX file.") from error
    opened: dict[str, mmap.mmap] = {}
    for graph in _graphs(model.graph):
        for tensor in graph.initializer:
            if tensor.data_location != _EXTERNAL:
                continue
            place = {entry.key: entry.value for entry in tensor.external_data}
            name = Path(place["location"]).name  # beside the file, and nowhere else
            if name not in opened:
                with open(file.with_name(name), "rb") as weights:
                    opened[name] = mmap.mmap(weights.fileno(), 0, access=mmap.ACCESS_READ)
            start, length = int(place["offset"]), int(place["length"])
            tensor.raw_data = opened[name][start : start + length]
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    return model.SerializeToString()
