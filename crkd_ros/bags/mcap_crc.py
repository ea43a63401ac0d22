"""Checksums of an mcap file whose writer leaves them out, as rosbags 0.11 does.

A file without them is valid, but nobody notices when a bit of a picture flips on a disk. Format:
https://mcap.dev/spec, records Chunk, Data End and Footer.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

#: What an mcap file begins and ends with.
MCAP_MAGIC = b"\x89MCAP0\r\n"
_CHUNK, _DATA_END, _FOOTER = 0x06, 0x0F, 0x02
#: Where in a Chunk its checksum lies: after two times and the size of what it holds.
_CHUNK_CRC = 24
_FOOTER_SIZE = 29
_PIECE = 1 << 20


def add_checksums(path: Path) -> None:
    """Fill in the checksums of all chunks, of the data and of the summary.

    Args:
        path: a whole mcap file with chunks that are not compressed.
    """
    with path.open("r+b") as file:
        total = crc32(file.read(len(MCAP_MAGIC)))
        while True:
            start = file.tell()
            opcode, length = struct.unpack("<BQ", file.read(9))
            if opcode == _CHUNK:
                _fill_chunk(file, start + 9)
            elif opcode == _DATA_END:
                file.seek(start + 9)
                file.write(struct.pack("<I", total))
                file.seek(start + 9 + length)
                break
            total = _crc_of(file, start, start + 9 + length, total)
        _fill_footer(file)


def summary_is_whole(path: Path) -> bool:
    """Whether the checksum of an mcap file's summary fits; True where it has none.

    The summary holds names and types of topics. Readers do not look at its checksum.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        footer = size - len(MCAP_MAGIC) - _FOOTER_SIZE
        if footer < len(MCAP_MAGIC):
            return True  # Whoever reads it says that it is cut short.
        file.seek(footer)
        opcode, _, first, _, wanted = struct.unpack("<BQQQI", file.read(_FOOTER_SIZE))
        if opcode != _FOOTER or not wanted or not len(MCAP_MAGIC) <= first <= footer:
            return True
        return _crc_of(file, first, footer + _FOOTER_SIZE - 4, 0) == int(wanted)


def _fill_chunk(file: BinaryIO, content: int) -> None:
    file.seek(content + _CHUNK_CRC + 4)
    (name_length,) = struct.unpack("<I", file.read(4))
    compression = file.read(name_length)
    if compression:
        raise ValueError(f"{file.name}: expected chunks without compression, got {compression!r}")
    (size,) = struct.unpack("<Q", file.read(8))
    records = file.tell()
    value = _crc_of(file, records, records + size, 0)
    file.seek(content + _CHUNK_CRC)
    file.write(struct.pack("<I", value))


def _fill_footer(file: BinaryIO) -> None:
    """The file stands behind Data End, where the summary begins."""
    first = file.tell()
    while True:
        start = file.tell()
        opcode, length = struct.unpack("<BQ", file.read(9))
        if opcode == _FOOTER:
            at = start + 9 + length - 4
            value = _crc_of(file, first, at, 0)
            file.seek(at)
            file.write(struct.pack("<I", value))
            return
        file.seek(start + 9 + length)


def _crc_of(file: BinaryIO, start: int, end: int, value: int) -> int:
    """Go on with a checksum over [start, end) of a file; it stands at the end afterwards."""
    file.seek(start)
    while file.tell() < end:
        value = crc32(file.read(min(_PIECE, end - file.tell())), value)
    return value
