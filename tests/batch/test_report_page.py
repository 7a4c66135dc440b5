"""The report as a page: what it says, what it never lets through, and how large it gets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from orchestrator.batch.obstacles import SHARED, SILENT
from orchestrator.batch.report import report
from orchestrator.batch.report.tally import MOST_NAMED
from orchestrator.batch.report.wording import ending_of
from orchestrator.durable.batches import Batch, BatchState, Item, StoredItem
from orchestrator.machine.run import Policy
from orchestrator.sentences import _FAILED, _REFUSED
from tests.batch.reported import BEGUN, batch, class_of, freeing, marks, stored

#: Elements that the page may have; none of them runs anything or fetches anything.
_HARMLESS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "footer", "section", "h1",
    "h2", "h3", "p", "dl", "div", "dt", "dd", "ul", "li", "span", "strong", "code", "time", "bdi",
    "table", "thead", "tbody", "tr", "th", "td", "svg", "defs", "pattern", "path", "circle", "g",
    "desc", "text", "nav", "a",
}  # fmt: skip


class Page(HTMLParser):
    """The page as a browser would read it: its elements, and what it shows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.shown: list[str] = []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", " ".join(self.shown))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        if not self.elements or self.elements[-1][0] != "style":
            self.shown.append(data)

    def count(self, tag: str, **attributes: str) -> int:
        return sum(
            tag == name and attributes.items() <= known.items() for name, known in self.elements
        )


def html(asked: Batch, items: Iterable[StoredItem], at: float = BEGUN + 90_000) -> str:
    return "".join(report(asked, items, format="html", at=at))


def headline(asked: Batch, items: Iterable[StoredItem], at: float = BEGUN + 90_000) -> str:
    found = re.search('<p class="headline">(.*?)</p>', html(asked, items, at))
    assert found is not None
    return found[1]


def waiting(number: int) -> StoredItem:
    return StoredItem(item=Item(number=number, user_id=f"w{number}", lab_profile_id=1))


def under_way(number: int) -> StoredItem:
    item = Item(number=number, user_id=f"u{number}", lab_profile_id=1)
    return StoredItem(item=item, attempt=1, relaunch_id=f"r{number}", begun_at=BEGUN + 5)


EXAM: dict[str, Any] = {"outcome": "refused", "reason": "protected_exam"}
LATE: dict[str, Any] = {"outcome": "timed_out", "reason": "teardown_not_finished"}


def test_the_headline_says_it_all() -> None:
    fine = [stored(n) for n in range(1, 29)]
    bad = [stored(29, **EXAM), stored(30, **LATE)]
    assert headline(batch(30), [*fine, *bad]) == (
        "28 of 30 learners have the lab asked for; "
        "2 do not: 1 exam left alone, 1 still being torn down."
    )
    assert headline(batch(28), fine) == "All 28 learners have the lab asked for."
    assert headline(batch(1), fine[:1]) == "The one learner has the lab asked for."
    assert headline(batch(2), [stored(1, **EXAM), stored(2, **EXAM)]) == (
        "None of 2 learners have the lab asked for; 2 do not: 2 exams left alone."
    )
    assert headline(batch(0), []) == "There was nobody in this batch, so nothing was done."


def test_the_words_fit_what_was_to_be_done() -> None:
    freed = [stored(n, "freed") for n in (1, 2, 3)]
    assert headline(freeing(3), freed) == "All 3 learners no longer have the lab that was to end."
    page = Page(html(freeing(3), freed))
    assert "End labs and free their slots, 3 learners, selected by --all --old" in page.text
    saving = batch(3, policy=Policy(launch=False, displace="save"))
    assert "Save labs and free their slots, 3 learners" in Page(html(saving, freed)).text
    twice = [stored(n, "freed", user_id="ada", lab=n) for n in (1, 2)]
    assert headline(freeing(2), twice) == (
        "All 2 labs are ended, and the slots are free. (1 learner, some with several labs.)"
    )


def test_what_is_left_comes_first_with_what_to_do() -> None:
    said = "Refused for user ada, lab 1001: it is an exam. No lab was ended."
    page = Page(html(batch(2), [stored(1), stored(2, user_id="ada", message=said, **EXAM)]))
    first, run = page.text.rindex("What is left to do"), page.text.rindex("The run")
    assert first < run < page.text.rindex("Everybody")
    row = page.text[first:run]
    for words in ("ada", "1001", "refused (protected_exam)", said, "relaunch-2", "--allow-exam"):
        assert words in row
    later = Page(html(batch(1, batch_id="mon-1"), [stored(1, **LATE)]))
    assert "relaunch batch resume mon-1" in later.text
    assert "What is left to do" not in Page(html(batch(1), [stored(1)])).text


def test_a_launch_in_doubt_goes_before_any_other_advice() -> None:
    page = Page(html(batch(1), [stored(1, **LATE, launch_in_doubt=True)]))
    assert "a launch that got no answer, so there may be a lab" in page.text
    assert "Look first whether the learner has it" in page.text


@pytest.mark.parametrize("reason", sorted({*_REFUSED, *_FAILED, *SHARED, *SILENT}))
def test_every_reason_has_words_and_advice(reason: str) -> None:
    end = ending_of(stored(outcome="failed", reason=reason))
    assert "_" not in end.one
    assert end.next


def test_an_unknown_reason_is_said_as_it_is() -> None:
    end = ending_of(stored(outcome="failed", reason="brand_new"))
    assert end.one == "failed (brand new)"
    assert ending_of(stored(outcome="odd", reason=None)).one == "odd"


def test_an_unfinished_batch_says_so_plainly() -> None:
    items = [stored(1), under_way(2), waiting(3), waiting(4)]
    running = batch(4, BatchState.RUNNING, held_until=BEGUN + 600)
    now = html(running, items, at=BEGUN + 300)
    assert headline(running, items, at=BEGUN + 300) == (
        "1 of 4 learners has the lab asked for so far; 1 is under way; 2 were not begun."
    )
    assert "still being carried out" in now
    assert "resume" not in now
    left = html(batch(4, BatchState.RUNNING), items)
    assert "nobody is carrying it out" in left
    assert "<code>relaunch batch resume networking-thu</code> goes on with it." in left
    stopped = Page(html(batch(4, BatchState.STOPPED, reason="consumer_active"), items)).text
    assert "The API consumer has too many active labs." in stopped
    assert "Nothing of theirs was touched." in stopped
    aborted = Page(html(batch(4, BatchState.ABORTED, reason="aborted"), items)).text
    assert "aborted and is not gone on with" in aborted


def test_what_is_in_flight_is_drawn_open_ended() -> None:
    page = html(batch(2, BatchState.RUNNING, held_until=BEGUN + 1e6), [under_way(1), waiting(2)])
    assert 'class="f-under_way edge"' in page
    assert 'class="queue open"' in page


def test_what_was_tried_again_says_so() -> None:
    page = Page(html(batch(2), [stored(1, attempt=3), stored(2)]))
    assert page.text.count("attempt 3") == 2
    assert "(again)" in page.text
    assert "attempt 1" not in page.text
    assert "Tried more than once" in page.text


EVIL = "<script>alert(1)</script>\"'&\u202e<img src=x onerror=alert(1)>"


def test_everything_from_elsewhere_is_escaped() -> None:
    items = [
        stored(1, "failed", user_id=EVIL, reason=EVIL, message=EVIL, cancelled_instance_ids=(1,)),
        stored(2, EVIL, user_id=EVIL + "2", message=EVIL),
        StoredItem(item=Item(number=3, user_id=EVIL + "3", lab_profile_id=1)),
    ]
    text = html(batch(3, selection=EVIL, reason=EVIL), items)
    page = Page(text)
    assert {tag for tag, _ in page.elements} <= _HARMLESS
    assert not any(name.startswith("on") for _, known in page.elements for name in known)
    assert EVIL in page.text
    assert "<script" not in text


def test_the_page_needs_nothing_and_allows_nothing() -> None:
    page = Page(html(batch(60), class_of(60, labs=(1, 2), trouble=0.3)))
    used = {name for _, known in page.elements for name in known}
    assert used.isdisjoint({"src", "xlink:href", "style", "srcset", "action", "data"})
    links = [known["href"] for _, known in page.elements if "href" in known]
    assert links == ["#left", "#run", "#teardowns", "#everybody"]
    assert set(links) <= {f"#{known.get('id')}" for _, known in page.elements}
    policy = next(k["content"] for _, k in page.elements if "content-security" in str(k).lower())
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert page.count("script") == 0


def test_every_picture_has_a_name_and_a_description() -> None:
    text = html(batch(60), class_of(60, labs=(1, 2)))
    pictures = re.findall(r"<svg id=.*?</svg>", text, re.S)
    assert len(pictures) == 1 + 2 + 2  # everybody, forty lines and twenty, two labs
    for picture in pictures:
        svg = ElementTree.fromstring(picture)  # noqa: S314 - our own
        named = {svg.attrib["aria-labelledby"], svg.attrib["aria-describedby"]}
        assert svg.attrib["role"] == "img"
        assert named == {child.attrib["id"] for child in svg[:2]}
        assert all(child.text for child in svg[:2])


def test_there_is_a_line_for_each_learner_and_a_row() -> None:
    page = Page(html(batch(30), class_of(30)))
    assert page.count("g") == 30
    assert page.count("th", scope="row") >= 30
    assert page.count("th", scope="col") == 10 + 5 + 7


def test_patterns_that_are_used_are_there() -> None:
    text = html(batch(60), class_of(60, trouble=0.3, until=200.0))
    defined = set(re.findall(r'<pattern id="([^"]+)"', text))
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= defined


def test_times_say_their_zone_and_are_exact_for_programs() -> None:
    text = html(batch(1), [stored(1)])
    assert '<time datetime="2026-11-01T18:00:00Z" title="2026-11-01T18:00:00Z">' in text
    assert "1 November 2026, 18:00 UTC" in text
    assert "<td title=2026-11-01T18:01:00Z>18:01:00" in text


def test_a_night_between_two_days_is_cut_out_and_told() -> None:
    page = Page(html(batch(60), class_of(60, concurrency=8, pause=(200.0, 40_000.0))))
    assert re.search(r"11 h \d+ min of it paused", page.text)
    assert re.search(r"11 h \d+ min pause", page.text)


def test_teardowns_nobody_saw_the_end_of_are_told_apart() -> None:
    over = stored(1, seconds=50, marks=marks(("tearing_down", 0), ("launching", 40)))
    late = stored(2, **LATE, seconds=900, marks=marks(("tearing_down", 0)))
    page = Page(html(batch(2), [over, late])).text
    assert (
        "1 teardown was not seen to end, the longest for 15 min; what follows is without it."
        in page
    )
    assert "&gt;" not in page
    assert "> 15:00" in page.replace("\u202f", " ")


def test_5000_learners_can_be_mailed_with_long_ids_and_much_trouble() -> None:
    def long_ids() -> Iterable[StoredItem]:
        for item in class_of(5000, concurrency=200, labs=(100_001, 100_002), trouble=0.2):
            user = f"3f2b8c1e-9a4d-4e7b-8f60-{item.item.number:012}"
            yield StoredItem(
                item=Item(number=item.item.number, user_id=user, lab_profile_id=100_001),
                attempt=item.attempt,
                relaunch_id=item.relaunch_id,
                begun_at=item.begun_at,
                ended_at=item.ended_at,
                result=item.result,
            )

    text = html(batch(5000), long_ids())
    assert len(text.encode()) < 1_500_000
    assert text.count("<tr><td>") >= 5000


def test_more_than_5000_are_not_all_listed_and_it_says_where_they_are() -> None:
    items = (stored(n, **(LATE if n % 4 == 0 else {})) for n in range(1, 6001))
    text = html(batch(6000), items)
    page = Page(text)
    assert "The first 5,000 of 6,000." in page.text
    assert f"The first {MOST_NAMED} of 1,500." in page.text
    assert "relaunch batch show networking-thu --report everybody.csv" in page.text
    assert (
        "4,500 of 6,000 learners have the lab asked for; 1,500 do not: 1,500 still being"
        in page.text
    )
    assert "learner-6000" not in page.text
