"""Event files as TensorBoard reads them: records with checksums, each an `Event` message of protocol buffers.

| message | field | |
|---|---|---|
| Event | 1 double, 2 int64 | seconds since 1970, step |
| | 3 string | version of the file, first record only |
| | 5 Summary | its field 1, repeated: Value with 1 string (name) and 2 float (value) |

A record is its length (8 bytes), the masked CRC-32C of these, the message, and the masked CRC-32C of that, all
little-endian. Written here, at once, because libraries write on threads of their own, where a full disk goes unseen.
"""

import struct
from collections.abc import Mapping

VERSION = b"brain.Event:2"
POLYNOMIAL = 0x82F63B78
"""Of CRC-32C (Castagnoli), bits reversed."""
MASK = 0xA282EAD8


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = _table()


def checksum(data: bytes) -> int:
    """The masked CRC-32C: rotated right by 15 bits, plus a constant, in 32 bits."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF


def record(message: bytes) -> bytes:
    """A message with its length and checksums."""
    length = struct.pack("<Q", len(message))
    return length + struct.pack("<I", checksum(length)) + message + struct.pack("<I", checksum(message))


def begin(at: float) -> bytes:
    """The first event of a file."""
    return _double(1, at) + _bytes(3, VERSION)


def scalars(at: float, step: int, values: Mapping[str, float]) -> bytes:
    """An event with numbers by name."""
    summary = b"".join(_bytes(1, _bytes(1, name.encode()) + _float(2, value)) for name, value in values.items())
    return _double(1, at) + _varint(2 << 3) + _varint(step) + _bytes(5, summary)


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    done = bytearray()
    while number > 0x7F:
        done.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(done) + bytes([number])


def _double(key: int, value: float) -> bytes:
    return _varint(key << 3 | 1) + struct.pack("<d", value)


def _float(key: int, value: float) -> bytes:
    return _varint(key << 3 | 5) + struct.pack("<f", value)


def _bytes(key: int, value: bytes) -> bytes:
    return _varint(key << 3 | 2) + _varint(len(value)) + value
