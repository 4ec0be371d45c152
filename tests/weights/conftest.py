"""The messages of caffe.proto that hold weights, built with protobuf: the oracle for our own reader."""

from types import SimpleNamespace

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "float": _FIELD.TYPE_FLOAT,
    "double": _FIELD.TYPE_DOUBLE,
    "string": _FIELD.TYPE_STRING,
}
_MESSAGES = {
    "BlobShape": [("dim", 1, "*int64")],
    "BlobProto": [
        ("num", 1, "int32"),
        ("channels", 2, "int32"),
        ("height", 3, "int32"),
        ("width", 4, "int32"),
        ("data", 5, "*float"),
        ("diff", 6, "*float"),
        ("shape", 7, "BlobShape"),
        ("double_data", 8, "*double"),
    ],
    "LayerParameter": [
        ("name", 1, "string"),
        ("type", 2, "string"),
        ("bottom", 3, "*string"),
        ("blobs", 7, "*BlobProto"),
    ],
    "V1LayerParameter": [
        ("bottom", 2, "*string"),
        ("name", 4, "string"),
        ("type", 5, "int32"),
        ("blobs", 6, "*BlobProto"),
    ],
    "NetParameter": [("name", 1, "string"), ("layers", 2, "*V1LayerParameter"), ("layer", 100, "*LayerParameter")],
}


@pytest.fixture(scope="session")
def caffe():
    """`caffe[True]` holds the message classes with packed numbers, `caffe[False]` with unpacked ones."""
    return {packed: _message_classes(packed) for packed in (True, False)}


def _message_classes(packed: bool) -> SimpleNamespace:
    package = f"caffe_{'packed' if packed else 'unpacked'}"
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind in fields:
            repeated, kind = kind.startswith("*"), kind.lstrip("*")
            field = described.field.add(name=name, number=number)
            field.label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            if kind in _TYPES:
                field.type = _TYPES[kind]
                field.options.packed = packed and repeated and kind != "string"
            else:
                field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{package}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    find = pool.FindMessageTypeByName
    return SimpleNamespace(**{m: message_factory.GetMessageClass(find(f"{package}.{m}")) for m in _MESSAGES})
