"""Text that has to wait until what stands before it is known, compressed in memory.

Of a batch that is read once the summary is known last, and is to be read first. No file is used:
user ids stay where they are, and a read-only disk is no obstacle.
"""

from __future__ import annotations

import zlib
from codecs import getincrementaldecoder
from collections.abc import Iterator

#: So much text is gone through at a time, in characters and bytes.
CHUNK = 64 * 1024


class KeptText:
    """Takes text in, piece by piece, and gives it back once, as chunks."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(level=1)
        self._packed: list[bytes] = []
        self._fresh: list[str] = []
        self._length = 0

    def add(self, text: str) -> None:
        """Keep a piece of text."""
        self._fresh.append(text)
        self._length += len(text)
        if self._length >= CHUNK:
            self._pack()

    def chunks(self) -> Iterator[str]:
        """All of it, in order; it is gone afterwards."""
        self._pack()
        self._packed.append(self._packer.flush())
        unpacker = zlib.decompressobj()
        # A chunk may end within a character.
        decoder = getincrementaldecoder("utf-8")()
        for packed in self._packed:
            while packed:
                text = decoder.decode(unpacker.decompress(packed, CHUNK))
                packed = unpacker.unconsumed_tail
                if text:
                    yield text
        if text := decoder.decode(unpacker.flush(), final=True):
            yield text
        self._packed.clear()

    def _pack(self) -> None:
        text = "".join(self._fresh)
        self._packed.append(self._packer.compress(text.encode("utf-8", "replace")))
        self._fresh.clear()
        self._length = 0
