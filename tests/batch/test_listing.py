"""Lists of learners: what is read, and that everything wrong with one is told, line by line."""

from __future__ import annotations

import dataclasses
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import LaunchParameters
from orchestrator.batch import columns, listing
from orchestrator.batch.listing import InvalidListing, ListedRow, read_rows
from orchestrator.batch.problems import KEPT, TOLD


def rows_of(text: str | bytes, name: str = "class.csv", **options: Any) -> tuple[ListedRow, ...]:
    data = text.encode() if isinstance(text, str) else text
    return read_rows(io.BytesIO(data), name=name, **options)


def problems_of(text: str | bytes, name: str = "class.csv", **options: Any) -> list[str]:
    with pytest.raises(InvalidListing) as caught:
        rows_of(text, name, **options)
    assert str(caught.value).startswith(f"{name}: ")
    return [str(problem) for problem in caught.value.problems]


FULL = (
    "lab,user,displace_instance_id,first_name,last_name,email,class_id,can_be_marked_complete,tag,"
    "ip_address,region_id,role_ids,max_saved_labs,max_active_labs,lang,instructions_id,"
    "duration_minutes,last_activity_timeout_minutes,variable-size,variables.Second Name\n"
    '1001,007,40000001,Ann,"Lee, PhD",ann@x.org,c1,no,t,1.1.1.1,2,3; 4,0,5,de,Base,90,30,big,\n'
)


def test_every_launch_parameter_has_its_column() -> None:
    (row,) = rows_of(FULL)
    assert (row.line, row.user_id, row.lab_profile_id) == (2, "007", 1001)
    assert row.displace_instance_id == 40_000_001
    assert row.parameters == LaunchParameters(
        first_name="Ann", last_name="Lee, PhD", email="ann@x.org", class_id="c1",
        can_be_marked_complete=False, tag="t", ip_address="1.1.1.1", region_id=2, role_ids=(3, 4),
        variables={"size": "big"}, max_saved_labs=0, max_active_labs=5, lang="de",
        instructions_id="Base", duration_minutes=90, last_activity_timeout_minutes=30,
    )  # fmt: skip
    fields = {field.name for field in dataclasses.fields(LaunchParameters)} - {"variables"}
    assert fields < set(columns.COLUMNS)


def test_json_lines_say_the_same() -> None:
    entry = {
        "user_id": "007", "lab": 1001, "displace_instance_id": 40_000_001, "first_name": "Ann",
        "role_ids": [3, 4], "can_be_marked_complete": False, "email": None,
        "variables": {"size": "big"}, "variable-second": "two",
    }  # fmt: skip
    (row,) = rows_of("\n" + json.dumps(entry) + "\n\n", "class.jsonl")
    assert (row.line, row.user_id, row.lab_profile_id) == (2, "007", 1001)
    assert row.parameters == LaunchParameters(
        first_name="Ann",
        role_ids=(3, 4),
        can_be_marked_complete=False,
        variables={"size": "big", "second": "two"},
    )


@pytest.mark.parametrize(
    "data",
    [
        b"user_id,lab_profile_id\nann,1001\n",
        b"\xef\xbb\xbfuser_id;lab_profile_id\r\nann;1001\r\n",
        b"sep=;\r\nLab Profile ID;User-ID;\r\n1001;ann;\r\n;;\r\n",
        b'"lab"\t"user"\n\n1001\t"ann"',
        "user_id\tlab_profile_id\r\nann\t1001\r\n".encode("utf-16"),
        b"user_id,lab_profile_id\rann , 1001\r",
    ],
    ids=["commas", "semicolons", "sep", "tabs", "utf-16", "cr"],
)
def test_what_spreadsheets_write_is_read(data: bytes) -> None:
    (row,) = rows_of(data)
    assert (row.user_id, row.lab_profile_id, row.parameters) == ("ann", 1001, LaunchParameters())


def test_a_header_as_short_as_a_separators_line_is_a_header() -> None:
    assert [row.user_id for row in rows_of("user,\nann,\n", launch=False)] == ["ann"]


def test_a_text_of_the_greatest_length_is_taken() -> None:
    assert len(rows_of(f"user,lab\n{'x' * columns.LONGEST_TEXT},1\n")) == 1


def test_what_looks_like_a_formula_is_text() -> None:
    (row,) = rows_of("user,lab,tag\n=1+1,1,\"=cmd|'/c calc'!A0\"\n")
    assert (row.user_id, row.parameters.tag) == ("=1+1", "=cmd|'/c calc'!A0")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("-", "user,lab\nann,1\n"),
        ("-", '{"user": "ann", "lab": 1}'),
        ("x.ndjson", '{"user": "ann", "lab": 1}'),
        ("x.txt", "user;lab\nann;1\n"),
    ],
)
def test_the_kind_is_told_by_the_name_or_by_the_beginning(name: str, text: str) -> None:
    assert [row.user_id for row in rows_of(text, name)] == ["ann"]


def test_a_kind_that_is_told_counts() -> None:
    assert rows_of('{"user": "ann", "lab": 1}', "class.csv", kind="jsonl")
    assert "no header" in problems_of('{"user": "ann", "lab": 1}', "-", kind="csv")[0]


def test_a_path_is_read_and_one_that_cannot_be_is_told(tmp_path: Path) -> None:
    path = tmp_path / "class.csv"
    path.write_text("user,lab\nann,1\n")
    assert len(read_rows(path, name="class.csv")) == 1
    for wrong in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(InvalidListing, match="cannot be read"):
            read_rows(wrong, name="class.csv")


# --- which lab ------------------------------------------------------------------------------------


def test_a_lab_for_all_stands_in_where_a_row_has_none() -> None:
    assert [row.lab_profile_id for row in rows_of("user\nann\n", default_lab=7)] == [7]
    told = rows_of("user,lab\nann,\nbob,8\n", default_lab=7)
    assert [row.lab_profile_id for row in told] == [7, 8]


def test_without_a_lab_only_a_slot_can_be_freed() -> None:
    assert problems_of("user\nann\nbob\n") == [
        "line 1, lab_profile_id: the header has no such column, and no lab is given for all."
    ]
    assert problems_of("user,lab\nann,\n")[0].startswith("line 2, lab_profile_id: is missing")
    assert problems_of('{"user": "ann"}', "-")[0].startswith("line 1, lab_profile_id: is missing")
    (row,) = rows_of("user\nann\n", launch=False)
    assert row.lab_profile_id is None


# --- duplicates -----------------------------------------------------------------------------------


def test_a_learner_is_listed_once() -> None:
    told = problems_of("user,lab\nann,1\n\nbob,1\nann,2\nann,1\n")
    assert told == [
        "line 5, user_id: 'ann' is in line 2 already.",
        "line 6, user_id: 'ann' is in line 2 already.",
    ]


@pytest.mark.parametrize(
    ("rows", "refused"),
    [
        (["ann,1,", "ann,2,"], False),
        (["ann,1,", "ann,1,"], True),
        (["ann,1,9", "ann,1,8"], False),
        (["ann,1,9", "ann,1,9"], True),
        (["ann,,9", "ann,,8"], False),
        (["ann,,9", "ann,1,9"], True),
        (["ann,1,9", "ann,1,"], True),
        (["ann,1,", "ann,1,9"], True),
        (["ann,,", "ann,1,9"], True),
        (["ann,1,9", "ann,,"], True),
        (["ann,,", "bob,,"], False),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_where_nothing_is_launched_the_same_lab_is_listed_once(
    rows: list[str], refused: bool, turned: bool
) -> None:
    text = "\n".join(["user,lab,displace_instance_id", *(rows[::-1] if turned else rows)])
    if refused:
        assert problems_of(text, launch=False) == ["line 3, user_id: 'ann' is in line 2 already."]
    else:
        assert len(rows_of(text, launch=False)) == 2


# --- problems -------------------------------------------------------------------------------------


def test_all_problems_are_told_at_once_with_their_lines() -> None:
    text = (
        "user,lab,emial,lang,can_be_marked_complete,role_ids,variables.,lab_profile_id\n"
        ',abc,,tlh,perhaps,"1;x",,\n'
        '"bob\nby",3000000000,,,,,,\n'
        "carl,1\n"
        "da\u200bve,1,,,,,,\n"
        '"e"ve,1,,,,,,\n'
        "ann,1,,,,,,\n"
    )
    assert problems_of(text) == [
        "line 1, emial: is no column that is known; did you mean 'email'?",
        "line 1, lab_profile_id: there are two such columns.",
        "line 1, variables.: a variable needs a name: variables.NAME.",
        "line 2, can_be_marked_complete: 'perhaps' is neither true nor false.",
        "line 2, lab_profile_id: 'abc' is not a whole number.",
        "line 2, lang: 'tlh' is none of en, es, fr, de, pt, ja, zh-hans, zh-hant, ko.",
        "line 2, role_ids: 'x' is not a whole number.",
        "line 2, user_id: is empty.",
        "line 3, lab_profile_id: 3000000000 is not from 1 to 2147483647.",
        "line 3, user_id: has a control character in it (U+000A).",
        "line 5: too few cells: 2 instead of 8.",
        "line 6, user_id: has an invisible character in it (U+200B).",
        "line 7: a quoted cell goes on after its closing quote; double the quotes inside it.",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "it is empty"),
        (" \n\n", "it is empty"),
        ("user,lab\n", "it lists nobody"),
        ("user,lab\n,\n ,  \n", "it lists nobody"),
        ("ann,1001\nbob,1001\n", "line 1: there is no header"),
        (",lab\nann,1\n", "line 1, user_id: the header has no such column"),
        ("user,lab\nann\n", "line 2: too few cells: 1 instead of 2"),
        ("user,lab\nann,1,2\n", "line 2: too many cells: 3 instead of 2"),
        ("user,lab,\nann,1,x\n", "line 2: 'x' stands under no heading"),
        ('user,lab\nann,1\n"bob,1\ncarl,1\n', "line 3: a quote is opened here and never closed"),
        ('user,lab\n"b"ob,1\ncarl,1\n', "line 2: a quoted cell goes on after its closing quote"),
        ("user,lab\nan\x00n,1\n", "line 2, user_id: has a control character in it (U+0000)"),
        ("user,lab,tag\nann,1,a\x07\n", "line 2, tag: has a control character in it (U+0007)"),
        (f"user,lab\n{'x' * 1001},1\n", "line 2, user_id: is longer than 1,000 characters"),
        (
            f"user,lab\n{'x' * 200_000},1\n",
            "line 2: a cell is longer than 131,072 characters; was a quote",
        ),
        ("user,lab\nann,-1\n", "line 2, lab_profile_id: '-1' is not a whole number"),
        ("user,lab\nann,0\n", "line 2, lab_profile_id: 0 is not from 1 to 2147483647"),
        ("user,lab\nann,\u0661\n", "line 2, lab_profile_id: '\u0661' is not a whole number"),
        ("user,lab,first\nann,1,A\n", "line 1, first: is no column that is known; did you mean"),
        ("user,lab,zzzz\nann,1,A\n", "line 1, zzzz: is no column that is known; known are user_id"),
    ],
)
def test_each_problem_of_a_table(text: str, expected: str) -> None:
    told = problems_of(text)
    assert len(told) == 1
    assert told[0].startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[{"user": "ann"}]', "it is a JSON array"),
        ('{"user": "ann", "lab": 1', "line 1: is no JSON (Expecting"),
        ('\n{"user": "ann", "lab": 1}}', "line 2: is no JSON (Extra data)"),
        ("[" * 1 + "1]", "it is a JSON array"),
        ('{"user": "a", "lab": 1}\n3', "line 2: 3 is no JSON object"),
        ('{"user": "a", "lab": 1}\n' + "[" * 100_000, "line 2: is no JSON (unreadable)"),
        ('{"user": 7, "lab": 1}', "line 1, user_id: is a number; a user id is a text: write it in"),
        ('{"user": true, "lab": 1}', "line 1, user_id: True is not a text"),
        ('{"user": " a", "lab": 1}', "line 1, user_id: ' a' has space around it"),
        (
            '{"user": "a", "lab": "1"}',
            "line 1, lab_profile_id: '1' is a text where a whole number belongs",
        ),
        ('{"user": "a", "lab": true}', "line 1, lab_profile_id: True is not a whole number"),
        ('{"user": "a", "lab": 1.0}', "line 1, lab_profile_id: 1.0 is not a whole number"),
        ('{"user": "a", "lab": NaN}', "line 1: NaN is no JSON"),
        ('{"user": "a", "user": "b", "lab": 1}', "line 1: 'user' is given twice"),
        ('{"user": "a", "lab": 1, "tag": "x", "tag": "y"}', "line 1: 'tag' is given twice"),
        ('{"user": "a", "user_id": "b", "lab": 1}', "line 1, user_id: is given twice"),
        ('{"user": "a", "lab": 1, "variables": {"x": "1", "x": "2"}}', "line 1: 'x' is given twi"),
        ('{"user": "a", "lab": 1, "variables": {"x": 1}}', "line 1, variables.x: 1 is not a text"),
        ('{"user": "a", "lab": 1, "variables": [1]}', "line 1, variables: [1] is not an object"),
        ('{"user": "a", "lab": 1, "role_ids": 3}', "line 1, role_ids: 3 is not a list"),
        ('{"user": "a", "lab": 1, "role_ids": [true]}', "line 1, role_ids: True is not a list"),
        ('{"user": "a", "lab": 1, "lang": "tlh"}', "line 1, lang: 'tlh' is none of en, es"),
        ('{"lab": 1}', "line 1, user_id: is missing"),
        ('{"user": null, "lab": 1}', "line 1, user_id: is empty"),
        ('{"user": "a", "lab": ' + "9" * 5000 + "}", "line 1"),
    ],
)
def test_each_problem_of_json_lines(text: str, expected: str) -> None:
    told = problems_of(text, "-", kind="jsonl")
    assert len(told) == 1
    assert told[0].startswith(expected)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            "user,lab\nMüller,1\nann,1\nJosé,x\n".encode("cp1252"),
            [
                "line 2: byte 0xFC at position 2 is not UTF-8; it looks like Windows-1252: save "
                "the list as UTF-8.",
                "line 4: byte 0xE9 at position 4 is not UTF-8; it looks like Windows-1252: save "
                "the list as UTF-8.",
                "line 4, lab_profile_id: 'x' is not a whole number.",
            ],
        ),
        (b"user,lab\n\x81\xff,1\n", ["line 2: byte 0x81 at position 1 is not UTF-8."]),
        (
            "user,lab\nann,1\n".encode("utf-16-le"),
            ["it looks like UTF-16 without a byte order mark; save it as UTF-8."],
        ),
        ("user,lab\n".encode("utf-16") + b"a", ["line 2: it is UTF-16, and broken here; save"]),
        ("user,lab\nann,1\n".encode("utf-32"), ["it is UTF-32; save it as UTF-8."]),
        (b"PK\x03\x04 an xlsx", ["it is a spreadsheet or an archive; save it as CSV in UTF-8."]),
    ],
)
def test_a_wrong_encoding_is_told_with_what_it_looks_like(data: bytes, expected: list[str]) -> None:
    told = problems_of(data)
    assert len(told) == len(expected)
    assert all(t.startswith(e) for t, e in zip(told, expected, strict=True))


def test_the_message_lists_them_and_counts_the_rest() -> None:
    text = "user,lab\n" + "".join(f"u{n},x\n" for n in range(5000))
    with pytest.raises(InvalidListing) as caught:
        rows_of(text)
    told = str(caught.value).splitlines()
    assert told[0] == "class.csv: 5,000 problems."
    assert told[1] == "  line 2, lab_profile_id: 'x' is not a whole number."
    assert told[TOLD + 1] == f"  and {5000 - TOLD:,} more."
    assert (caught.value.total, len(caught.value.problems)) == (5000, KEPT)
    assert caught.value.field == "class.csv"


# --- size -----------------------------------------------------------------------------------------


class Endless(io.RawIOBase):
    """A stream that never ends; counts what was read of it."""

    given = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        assert size > 0, "all of it must never be asked for"
        self.given += size
        return b"x" * size


def test_what_is_too_big_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "big.csv"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    endless = Endless()
    tracemalloc.start()
    try:
        for source in (path, endless):
            with pytest.raises(InvalidListing, match="larger than 20 MB, and was not read"):
                read_rows(source, name="big.csv")  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert endless.given <= listing.LARGEST + 2_000_000
    assert peak < 60_000_000


def test_too_many_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MOST_ROWS", 3)
    assert len(rows_of("user,lab\n\na,1\nb,1\nc,1\n,\n")) == 3
    for name, text in (
        ("a.csv", "user,lab\na,1\nb,1\nc,x\nd,1\ne,y\n"),
        ("a.jsonl", '{"user": "a", "lab": 1}\n' * 5),
    ):
        assert "it has more than 3 rows; split the list." in problems_of(text, name)


# --- whatever comes -------------------------------------------------------------------------------

CELLS = st.text(st.sampled_from('an0;,\t"\r\n =\x00\ufeffü\u200b') | st.characters(), max_size=8)


def survives(data: bytes, kind: Any) -> None:
    """Rows with a learner each, or problems, and nothing else."""
    try:
        users = [row.user_id for row in rows_of(data, "x", kind=kind, launch=False)]
    except InvalidListing as error:
        users = [str(problem) for problem in error.problems]
    assert users
    assert all(user.strip() for user in users)


@given(st.lists(st.lists(CELLS, max_size=4), max_size=5), st.sampled_from(["csv", "jsonl"]))
def test_whatever_comes_is_read_or_refused(table: list[list[str]], kind: Any) -> None:
    text = "user,lab,tag\n" + "\n".join(",".join(cells) for cells in table)
    survives(text.encode("utf-8", "surrogatepass"), kind)
    survives(text.encode("utf-16", "surrogatepass"), kind)


@given(st.binary(max_size=60), st.sampled_from(["csv", "jsonl", None]))
def test_any_bytes_are_read_or_refused(data: bytes, kind: Any) -> None:
    for head in (b"", b"user\n", b"\xff\xfe"):
        survives(head + data, kind)
