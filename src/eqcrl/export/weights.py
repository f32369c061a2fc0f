"""The weights of a policy by name, with a header that says how to evaluate them: a safetensors file.

The format: eight bytes with the length of the header (little-endian), the header in JSON, then the numbers of all
arrays, row after row. The header has for each name its type, its shape, and from where to where its numbers lie; under
`__metadata__` it has texts, ours being `format` and `policy`.
"""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from eqcrl.export.policy import Policy, facts_text

TYPES = {"float32": "F32", "float16": "F16", "float64": "F64", "int32": "I32", "int64": "I64"}
ALIGNMENT = 8
"""Of the first number, in bytes: spaces fill up the header."""


def write(policy: Policy, path: Path) -> None:
    """The file, array by array. Raises: OSError."""
    header: dict[str, Any] = {"__metadata__": {"format": policy.facts["format"], "policy": facts_text(policy)}}
    offset = 0
    for name, array in policy.weights.items():
        header[name] = {
            "dtype": TYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for array in policy.weights.values():
            file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a file that `write` wrote, and its facts."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    facts = json.loads(header.pop("__metadata__")["policy"])
    names = {short: long for long, short in TYPES.items()}
    arrays = {}
    for name, entry in header.items():
        start, end = (8 + size + offset for offset in entry["data_offsets"])
        arrays[name] = np.frombuffer(content[start:end], names[entry["dtype"]]).reshape(entry["shape"])
    return arrays, facts
