"""The bytes of a list become text: UTF-8, or UTF-16 with its mark; nothing else is guessed at.

A guess would change names silently. What isn't UTF-8 is told line by line, with what it looks like.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from orchestrator.batch.problems import Problems

#: Codepage that older spreadsheet programs of the western world write.
_OLD = "cp1252"
_ZIP = b"PK\x03\x04"
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


def decoded(data: bytes, problems: Problems) -> str:
    """The text, without its mark. Lines that can't be read are problems; the rest is text still."""
    if data.startswith(_ZIP):
        problems.end(0, "", "it is a spreadsheet or an archive; save it as CSV in UTF-8")
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        problems.end(0, "", "it is UTF-32; save it as UTF-8")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            before = data[: error.start].decode("utf-16", errors="ignore")
            line = 1 + before.count("\n")
            problems.end(line, "", "it is UTF-16, and broken here; save it as UTF-8")
    if _is_bare_utf_16(data):
        problems.end(0, "", "it looks like UTF-16 without a byte order mark; save it as UTF-8")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(_line_by_line(data, problems))


def lines_of(text: str) -> Iterator[str]:
    """The lines of a text with their ends, however a line ends; no copy of the whole is made."""
    return (found.group() for found in _LINE.finditer(text))


def _line_by_line(data: bytes, problems: Problems) -> Iterator[str]:
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            told = f"byte 0x{line[error.start]:02X} at position {error.start + 1} is not UTF-8"
            if _is_old(line):
                told += "; it looks like Windows-1252: save the list as UTF-8"
            problems.add(number, "", told)
            yield line.decode(_OLD, errors="replace")


def _is_old(line: bytes) -> bool:
    try:
        line.decode(_OLD)
    except UnicodeDecodeError:
        return False
    return True


def _is_bare_utf_16(data: bytes) -> bool:
    """Every other byte of the beginning is zero, as in no other text."""
    beginning = data[:64]
    return len(beginning) >= 8 and any(
        beginning[first::2].count(0) > len(beginning) // 2 * 0.9 for first in (0, 1)
    )
