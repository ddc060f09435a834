"""Scored comparisons as tables, pictures and figures to hold against the paper's."""

from collections.abc import Mapping, Sequence

from evaluation.bars import Bar, draw_bars
from evaluation.intervals import Bootstrap, mean
from evaluation.pairwise_formats import Comparison
from evaluation.preferences import STYLES, Outcome, hard_normal_easy, ranks_first, style_matrix, weighted
from evaluation.published import deviation, published
from evaluation.report import Cell, Report, Table

_PAPER_ROWS = ("IXC-2.5-Reward", "IXC-2.5-Reward, recomputed")
# A comparison and its candidates' scores.
Scored = tuple[Comparison, Sequence[float]]


def add_paper(report: Report, name: str, figures: Mapping[str, float]) -> None:
    """The deviation of every figure from the published one."""
    paper = published(name)
    rows: list[tuple[Cell, ...]] = []
    for name in paper.columns:
        here, there = figures.get(name), paper.find(_PAPER_ROWS[0], name)
        rows.append((name, here, there, deviation(here, there), paper.find(_PAPER_ROWS[1], name)))
    note = f"{paper.source}. {' '.join(paper.notes)}"
    columns = ("figure", "here", "IXC-2.5-Reward", "deviation", "recomputed")
    report.tables.append(Table("Against the paper", note, columns, rows))


def add_pairs(report: Report, scored: Sequence[Scored], seed: int, *, ranked: bool) -> dict[str, float]:
    """Accuracy by group, overall and macro; `ranked` lets a stable ranking decide ties. Figures by name, percent."""
    outcomes = [_decide(one, scores, ranked=ranked) for one, scores in scored]
    by_group = {group: [one for one in outcomes if one.group == group] for group in _groups(outcomes)}
    figures = {group: 100 * mean([one.right for one in members]) for group, members in by_group.items()}
    macro = mean(list(figures.values()))
    rows = [_group_row(group, members, seed) for group, members in (by_group | {"Overall": outcomes}).items()]
    rule = "a tie goes to the answer that was sent first" if ranked else "a tie is wrong"
    note = f"Percent, with the 95 % bootstrap interval; {rule}. Macro, the plain mean of the groups: {macro:.1f}."
    columns = ("group", "pairs", "accuracy", "low", "high", "ties")
    report.tables.append(Table("Accuracy", note, columns, rows))
    if not ranked:
        report.tables.append(_subset_table(outcomes, by_group))
    bars = [
        Bar(str(row[0]), 100 * mean([one.right for one in members]), _percent(members, seed))
        for row, members in zip(rows, (by_group | {"Overall": outcomes}).values(), strict=True)
    ]
    report.pictures["accuracy"] = draw_bars(f"{report.title}, accuracy by group, {len(outcomes)} pairs", bars)
    overall = 100 * mean([one.right for one in outcomes])
    return figures | {"Overall": overall, "Macro": macro, "Average": macro}


def _decide(one: Comparison, scores: Sequence[float], *, ranked: bool) -> Outcome:
    better, worse = scores[one.better[0]], scores[1 - one.better[0]]
    right = ranks_first(scores, one.better[0]) if ranked else better > worse
    return Outcome(one.group, one.subset, right, better == worse)


def _group_row(name: str, members: Sequence[Outcome], seed: int) -> tuple[Cell, ...]:
    accuracy = 100 * mean([one.right for one in members])
    return name, len(members), accuracy, *_percent(members, seed), sum(one.tie for one in members)


def _percent(members: Sequence[Outcome], seed: int) -> tuple[float, float]:
    low, high = Bootstrap(len(members), seed).interval([one.right for one in members])
    return 100 * low, 100 * high


def _subset_table(outcomes: Sequence[Outcome], by_group: Mapping[str, Sequence[Outcome]]) -> Table:
    subsets = {one.subset: [other for other in outcomes if other.subset == one.subset] for one in outcomes}
    rows: list[tuple[Cell, ...]] = [
        (members[0].group, subset, len(members), 100 * mean([one.right for one in members]))
        for subset, members in subsets.items()
    ]
    rows += [
        (group, "with the leaderboard's weights", len(ones), 100 * weighted(ones)) for group, ones in by_group.items()
    ]
    return Table("By subset", "Percent.", ("group", "subset", "pairs", "accuracy"), rows)


def add_styles(report: Report, scored: Sequence[Scored]) -> dict[str, float]:
    """RM-Bench's accuracy by domain, difficulty and pair of styles. Figures by name, percent."""
    items = [(one.group, scores[:3], scores[3:]) for one, scores in scored]
    groups = sorted({group for group, _, _ in items})
    by_group = {group: style_matrix([(c, r) for name, c, r in items if name == group]) for group in groups}
    matrix = style_matrix([(chosen, rejected) for _, chosen, rejected in items])
    rows: list[tuple[Cell, ...]] = []
    for name, cells in (by_group | {"Overall": matrix}).items():
        hard, normal, easy = (100 * share for share in hard_normal_easy(cells))
        count = sum(name in (group, "Overall") for group, _, _ in items)
        rows.append((name, count, easy, normal, hard, (easy + normal + hard) / 3))
    averages = {str(row[0]): float(row[-1] or 0) for row in rows}
    macro = mean([averages[group] for group in groups])
    note = f"Percent; a tie is wrong. The average is that of easy, normal and hard; macro over domains: {macro:.1f}."
    report.tables.append(Table("Accuracy", note, ("domain", "items", "easy", "normal", "hard", "average"), rows))
    shown: list[tuple[Cell, ...]] = [
        (f"chosen {style}", *(100 * share for share in cells)) for style, cells in zip(STYLES, matrix, strict=True)
    ]
    columns = ("", *(f"rejected {style}" for style in STYLES))
    report.tables.append(Table("Styles", "Percent of items whose chosen answer scores higher.", columns, shown))
    bars = [Bar(name, average) for name, average in averages.items()]
    report.pictures["accuracy"] = draw_bars(f"RM-Bench, average by domain, {len(items)} items", bars)
    hard, normal, easy = (100 * share for share in hard_normal_easy(matrix))
    return averages | {"Easy": easy, "Normal": normal, "Hard": hard, "Average": averages["Overall"]}


def _groups(outcomes: Sequence[Outcome]) -> list[str]:
    return sorted({one.group for one in outcomes})
