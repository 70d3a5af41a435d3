"""Tensors of the Open Inference Protocol, version 2, in JSON and in its binary tensor data extension."""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import Shape
from .refusals import Refused, bad

INPUT = "images"
DATATYPES: dict[str, str] = {"FP32": "<f4", "UINT8": "|u1"}
BINARY = "binary_tensor_data"
SHARED = ("shared_memory_region", "classification")  # extensions that are not here


@dataclass(frozen=True)
class Output:
    """A tensor that is asked for.

    Attributes:
        name: of it.
        binary: whether it comes as bytes behind the JSON.
    """

    name: str
    binary: bool


@dataclass(frozen=True)
class InferenceRequest:
    """An inference request.

    Attributes:
        images: (N, C, H, W), uint8, or float32 in [0, 1].
        outputs: that are wanted, in this order.
        id: of the request, if it has one.
    """

    images: NDArray[Any]
    outputs: tuple[Output, ...]
    id: str | None


@dataclass(frozen=True)
class Tensor:
    """A tensor of an answer.

    Attributes:
        name: of it.
        datatype: of the protocol: ``FP32``, ``INT64``, ``BOOL`` or ``BYTES``.
        values: an array, or (N,) texts.
    """

    name: str
    datatype: str
    values: NDArray[Any] | list[str]

    @property
    def shape(self) -> list[int]:
        """Of it."""
        return [len(self.values)] if isinstance(self.values, list) else list(self.values.shape)

    def plain(self) -> list[Any]:
        """Its values row after row, as JSON has them; null where one is no number."""
        if isinstance(self.values, list):
            return self.values
        values = self.values.reshape(-1).tolist()
        finite = self.values.dtype.kind != "f" or np.isfinite(self.values).all()
        return values if finite else [v if math.isfinite(v) else None for v in values]

    def packed(self) -> bytes:
        """Its values as bytes: little-endian, row after row; each text behind its length."""
        if isinstance(self.values, list):
            texts = [v.encode() for v in self.values]
            return b"".join(struct.pack("<I", len(t)) + t for t in texts)
        return np.ascontiguousarray(self.values.astype(self.values.dtype.newbyteorder("<"), copy=False)).tobytes()


def read_request(
    body: bytes, header: str | None, shape: Shape, known: Sequence[str], refuse_many: Callable[[int], None] = lambda count: None
) -> InferenceRequest:
    """What an inference request asks for.

    Args:
        body: of the request: JSON, or JSON and tensors behind it.
        header: ``Inference-Header-Content-Length``, the bytes of the JSON; None: all are.
        shape: of the images.
        known: names of the outputs that there are.
        refuse_many: raises when a request may not have so many images; called before they are read.

    Raises:
        Refused: 400, with what was found and what was expected.
    """
    length = len(body) if header is None else _length(header, len(body))
    request = _object(body[:length])
    id_, inputs, wanted = request.get("id"), request.get("inputs"), request.get("outputs")
    if not isinstance(id_, str | None):
        raise bad(f"id must be a string; found {_kind(id_)}")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise bad(f"inputs must be a list of one tensor, {INPUT!r}")
    outputs = _outputs(wanted, known, _parameters(request, "the request").get("binary_data_output", False))
    return InferenceRequest(_images(inputs[0], body[length:], shape, refuse_many), outputs, id_)


def write_answer(head: Mapping[str, Any], tensors: Sequence[Tensor], outputs: Sequence[Output]) -> tuple[bytes, int | None]:
    """The body of an answer, and the bytes of the JSON in it where tensors follow as bytes.

    Args:
        head: fields of the answer beside its outputs.
        tensors: that there are.
        outputs: that are wanted.
    """
    by_name, described, behind = {t.name: t for t in tensors}, [], []
    for wanted in outputs:
        tensor = by_name[wanted.name]
        about: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if wanted.binary:
            behind.append(tensor.packed())
            about["parameters"] = {"binary_data_size": len(behind[-1])}
        else:
            about["data"] = tensor.plain()
        described.append(about)
    text = json.dumps(dict(head) | {"outputs": described}, allow_nan=False).encode()
    return (text + b"".join(behind), len(text)) if any(o.binary for o in outputs) else (text, None)


# --- parts of a request --------------------------------------------------------------------------------------------


def _length(header: str, whole: int) -> int:
    if not header.isascii() or not header.isdigit() or len(header) > 18 or int(header) > whole:
        raise bad(f"Inference-Header-Content-Length must be the bytes of the JSON, at most the body's {whole}")
    return int(header)


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text.decode("utf-8"), parse_constant=_no_number)
    except RecursionError:
        raise bad("the request is nested too deeply") from None
    except ValueError:
        raise bad("the request is no JSON in UTF-8 whose numbers are finite") from None
    if not isinstance(found, dict):
        raise bad(f"the request must be a JSON object; found {_kind(found)}")
    return found


def _no_number(text: str) -> None:
    raise ValueError(text)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _parameters(of: dict[str, Any], whose: str) -> dict[str, Any]:
    found = of.get("parameters")
    if not isinstance(found, dict | None):
        raise bad(f"parameters of {whose} must be an object; found {_kind(found)}")
    for name in SHARED:
        if name in (found or {}):
            raise bad(f"parameters of {whose} name the extension {name!r}, which is not here; there is {BINARY!r}")
    return found or {}


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise bad(f"{name} must be true or false; found {_kind(value)}")
    return value


def _outputs(wanted: Any, known: Sequence[str], binary: Any) -> tuple[Output, ...]:
    binary = _flag(binary, "binary_data_output")
    if wanted is None or wanted == []:
        return tuple(Output(name, binary) for name in known)
    if not isinstance(wanted, list) or not all(isinstance(o, dict) for o in wanted):
        raise bad(f"outputs must be a list of objects; found {_kind(wanted)}")
    found = []
    for o in wanted:
        name = o.get("name")
        if not isinstance(name, str) or name not in known:
            raise bad(f"an output has no name that is known; there are {', '.join(known)}")
        found.append(Output(name, _flag(_parameters(o, f"output {name!r}").get("binary_data", binary), "binary_data")))
    if len({o.name for o in found}) < len(found):
        raise bad("an output is asked for twice")
    return tuple(found)


def _images(given: dict[str, Any], behind: bytes, shape: Shape, refuse_many: Callable[[int], None]) -> NDArray[Any]:
    expected = (shape.channels, shape.height, shape.width)
    if given.get("name") != INPUT:
        raise bad(f"the input tensor must have the name {INPUT!r}")
    datatype, size = given.get("datatype"), given.get("shape")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise bad(f"datatype must be FP32, in [0, 1], or UINT8, 0 to 255; found {datatype if _short(datatype) else _kind(datatype)}")
    if not isinstance(size, list) or len(size) != 4 or any(type(n) is not int for n in size) or tuple(size[1:]) != expected or size[0] < 1:
        raise bad(f"shape must be [N, {', '.join(map(str, expected))}], N at least 1; found {size if _short(size) else _kind(size)}")
    refuse_many(size[0])
    parameters = _parameters(given, "the input")
    count, kind = math.prod(size), np.dtype(DATATYPES[datatype])
    if "binary_data_size" not in parameters:
        if behind:
            raise bad("bytes follow the JSON, and the input has no binary_data_size")
        return _in_range(_numbers(given.get("data"), size, datatype), datatype).astype(kind).reshape(size)
    if "data" in given:
        raise bad("the input has both data and binary_data_size")
    said = parameters["binary_data_size"]
    if type(said) is not int or not said == len(behind) == count * kind.itemsize:
        raise bad(
            f"binary_data_size must be {count * kind.itemsize}, of {datatype} {size}, and so many bytes must follow; {len(behind)} do"
        )
    return _in_range(np.frombuffer(behind, kind), datatype).reshape(size).copy()


def _short(value: Any) -> bool:
    """Whether it may be told to whoever sent it."""
    return isinstance(value, str | list) and len(repr(value)) <= 60 and repr(value).isprintable()


def _numbers(data: Any, size: list[int], datatype: str) -> NDArray[Any]:
    """Numbers that came in a flat list, or in lists of lists of the tensor's shape."""
    if not isinstance(data, list) or not data:
        raise bad(f"data must be a list of numbers; found {'an empty one' if data == [] else _kind(data)}")
    flat = data
    if isinstance(data[0], list):
        for n, below in zip(size, [*size[1:], 0], strict=True):
            if len(flat) % n or (below and not all(isinstance(v, list) and len(v) == below for v in flat)):
                raise bad(f"data must be flat, or nested as its shape {size}")
            flat = list(itertools.chain.from_iterable(flat)) if below else flat
    if len(flat) != math.prod(size):
        raise bad(f"data must have {math.prod(size)} numbers, as its shape {size} says; found {len(flat)}")
    if not set(map(type, flat)) <= ({int, float} if datatype == "FP32" else {int}):
        raise bad(f"data of {datatype} must be {'numbers' if datatype == 'FP32' else 'whole numbers'}")
    try:
        return np.array(flat, np.float64 if datatype == "FP32" else np.int64)
    except OverflowError:
        raise bad(f"data of {datatype} has a number that is too large") from None


def _in_range(values: NDArray[Any], datatype: str) -> NDArray[Any]:
    highest = 1 if datatype == "FP32" else 255
    lo, hi = float(values.min()), float(values.max())
    if not (lo >= 0 and hi <= highest):
        hint = " (UINT8 takes 0 to 255)" if datatype == "FP32" and lo >= 0 and 1 < hi <= 255 else ""
        raise bad(f"values of {datatype} must lie in [0, {highest}]; found [{lo:.4g}, {hi:.4g}]{hint}")
    return values


__all__ = ["BINARY", "DATATYPES", "INPUT", "InferenceRequest", "Output", "Refused", "Tensor", "read_request", "write_answer"]
