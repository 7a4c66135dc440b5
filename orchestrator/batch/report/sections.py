"""The sections of the page: what is left to do, the run, the teardowns, and a row of everybody."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from orchestrator.batch.report.drawing import unit
from orchestrator.batch.report.elements import SIGNS, again, safe, table, with_commands
from orchestrator.batch.report.headline import resume_command, whole_list
from orchestrator.batch.report.picture import bands, legend, phases_of, time_axis_of, time_lines
from orchestrator.batch.report.spans import Phase, teardown_of
from orchestrator.batch.report.spread import MOST_LABS, largest, spreads
from orchestrator.batch.report.tally import MOST_NAMED, SLOWEST, Bar, Group, Tally, Times
from orchestrator.batch.report.wording import clock, colon, iso, length, without_urls
from orchestrator.durable.batches import StoredItem

#: From so many learners on the picture of everybody says more than their lines.
BANDS_FROM = 40
#: So many lab profiles are in the table of teardown times.
MOST_LABS_TOLD = 50


def left_to_do(tally: Tally) -> Iterator[str]:
    """Those without success and what to do about them; nothing if all is well."""
    if not tally.groups and tally.is_through:
        return
    yield '<section><h2 id="left">What is left to do</h2>\n'
    yield table("left", "left", ("Learner", "Lab", "Outcome", "What was said", "Relaunch"))
    for end, group in tally.by_size():
        yield _group(tally, group, end.of(group.count), end.next)
        yield "".join(map(_named, group.named)) + _rest(tally, group)
    if (group := tally.under_way).count:
        yield _group(
            tally, group, "under way", "" if tally.is_carried_out else "<resume> follows them."
        )
        yield "".join(map(_named, group.named)) + _rest(tally, group)
    if (group := tally.waiting).count:
        yield _group(
            tally,
            group,
            "not begun",
            "Nothing of theirs was touched."
            + ("" if tally.is_carried_out else " <resume> begins them."),
        )
        names = ", ".join(f"<bdi>{safe(stored.item.user_id)}</bdi>" for stored in group.named)
        yield f'<tr><td colspan="5">{names}\n{_rest(tally, group)}'
    yield "</table></div></section>\n"


def the_run(tally: Tally) -> Iterator[str]:
    """The time lines, and for many learners the picture of everybody."""
    bars = tally.bars()
    if tally.first is None:
        return
    axis = time_axis_of(tally)
    yield '<section><h2 id="run">The run</h2>\n'
    if tally.total >= BANDS_FROM:
        yield "<h3>Everybody, moment by moment</h3>\n"
        yield _frame("Picture of everybody", bands(tally))
        yield legend([phase for phase in phases_of(bars) if phase is not Phase.QUEUE])
    which = (
        "Everybody, in the order of the list."
        if tally.shows_all
        else f"The {SLOWEST} that took longest, the longest first."
    )
    yield (
        f"<h3>A line for each learner</h3>\n<p>{which} The scale: {unit(axis.end - axis.start)} "
        f"since the batch began, at {clock(tally.batch.created_at)} UTC.</p>\n"
    )
    yield legend(phases_of(bars))
    yield _frame("Picture of each learner", "".join(time_lines(tally)))
    yield "</section>\n"


def the_teardowns(tally: Tally) -> Iterator[str]:
    """How long the teardowns took, as pictures and as a table."""
    labs = largest(tally)
    if not labs:
        return
    yield '<section><h2 id="teardowns">How long the teardowns took</h2>\n'
    if (late := len(tally.times.at_least)) > 0:
        longest = length(max(tally.times.at_least))
        was = "1 teardown was" if late == 1 else f"{late:,} teardowns were"
        yield (
            f"<p>{was} not seen to end, the longest for {longest}; what follows is without "
            f"{'it' if late == 1 else 'them'}.</p>\n"
        )
    if pictures := "".join(spreads(tally)):
        yield _frame("Pictures of the teardowns", pictures)
    if len(labs) > MOST_LABS:
        yield f"<p>The {MOST_LABS} labs with the most teardowns are drawn.</p>\n"
    heads = ("Lab", "Teardowns", "10 % within", "Half within", "90 % within", "Longest", "Not over")
    yield table("teardowns", "times", heads)
    for lab in labs[:MOST_LABS_TOLD]:
        yield _times(f"Lab {lab}", tally.labs[lab])
    if len(labs) > 1:
        yield _times("All", tally.times)
    yield "</table></div></section>\n"


def row(bar: Bar) -> str:
    """The row of everybody's table that tells of one item."""
    stored, item, result = bar.stored, bar.stored.item, bar.stored.result
    ended = [*result.cancelled_instance_ids, *result.saved_instance_ids] if result else []
    teardown = teardown_of(stored)
    took = ""
    if teardown is not None:
        took = f"{'' if teardown.over else '&gt;&#8239;'}{colon(teardown.seconds)}"
    cells = (
        str((result.lab_instance_id if result else None) or ""),
        " ".join(map(str, ended)),
    )
    times = ("" if bar.seconds is None else colon(bar.seconds), took)
    # A cell keeps a text that runs from right to left to itself.
    return (
        f"<tr><td>{item.number}<th scope=row>{safe(item.user_id)}<td>{item.lab_profile_id}"
        f"<td class=end-{bar.fate}>{SIGNS[bar.fate]} {escape(bar.word)}{again(stored.attempt)}"
        f"<td>{'<td>'.join(cells)}{_moment(stored.begun_at)}{_moment(stored.ended_at)}"
        f"<td>{'<td>'.join(times)}\n"
    )


def _moment(at: float | None) -> str:
    return "<td>" if at is None else f"<td title={iso(at)}>{clock(at)}"


def _group(tally: Tally, group: Group, name: str, advice: str) -> str:
    told = with_commands(advice.replace("<resume>", resume_command(tally)))
    return (
        f'<tbody><tr class="group"><th colspan="5" scope="rowgroup"><strong>{group.count:,} '
        f"{escape(name)}.</strong> {told}\n"
    )


def _named(stored: StoredItem) -> str:
    item, result, relaunch = stored.item, stored.result, stored.relaunch_id
    outcome, message = "under way", ""
    if result is not None:
        message = without_urls(result.message)
        outcome = f"{result.outcome}{f' ({result.reason})' if result.reason else ''}"
    return (
        f'<tr><th scope="row">{safe(item.user_id)}<td>{item.lab_profile_id}'
        f"<td>{safe(outcome)}{again(stored.attempt)}<td>{safe(message)}"
        f"<td>{f'<code>{safe(relaunch)}</code>' if relaunch else ''}\n"
    )


def _rest(tally: Tally, group: Group) -> str:
    if group.count == len(group.named):
        return ""
    return (
        f'<tr><td colspan="5">The first {MOST_NAMED} of {group.count:,}. '
        f"{with_commands(whole_list(tally))}\n"
    )


def _times(name: str, times: Times) -> str:
    cells = [""] * 4
    if times.over:
        longest = max(times.over)
        cells = [length(times.quantile(share)) for share in (0.1, 0.5, 0.9)] + [length(longest)]
    return (
        f'<tr><th scope="row">{name}<td>{len(times.over):,}<td>{"<td>".join(cells)}'
        f"<td>{len(times.at_least):,}\n"
    )


def _frame(label: str, content: str) -> str:
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(label)}">\n'
        f"{content}</div>\n"
    )
