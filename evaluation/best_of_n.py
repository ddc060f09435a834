"""`python -m evaluation.best_of_n`: how good the chosen one of N candidates is, by who chooses and by N."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.aggregates import NAMES
from evaluation.candidates import Question, read_questions, scored_by_all
from evaluation.chart import Line, draw_lines
from evaluation.command import run
from evaluation.errors import EvaluationError
from evaluation.intervals import Bootstrap, mean
from evaluation.pools import Pool, Selector, accuracy, make_pool, selectors
from evaluation.published import deviation, published
from evaluation.records import Record
from evaluation.report import Cell, Report, Table, command_line, failures, run_facts
from evaluation.session import Run, add_target, read_target, score_groups

_PAPER, _PAPER_N, _OVERALL = "visualprm_best_of_8", 8, "Overall"
# Selector → N → a figure for each question.
Figures = Mapping[Selector, Mapping[int, Sequence[float]]]


def main(arguments: Sequence[str]) -> None:
    """Raises EvaluationError."""
    given = _parser().parse_args(arguments)
    target = read_target(given)
    _check(given)
    questions, groups = read_questions(given.candidates, given.images)
    runs = score_groups(target, groups, kinds=("steps", "outcome"), several=True)
    report = Report("Best-of-N", command_line("best_of_n", arguments))
    report.facts |= run_facts(runs, target)
    pools = _pools(questions, runs, given)
    _describe(report, given, questions, pools)
    _measure(report, pools, given)
    for one in runs:
        report.tables += failures(one.records.values())
    report.write(target.out)
    print(report.markdown(), end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation.best_of_n", description=__doc__)
    parser.add_argument("--candidates", type=Path, required=True, help="JSON Lines: a question and its candidates each")
    parser.add_argument("--images", type=Path, help="folder of the pictures; default the candidates' folder")
    parser.add_argument("--blend", type=float, default=0.5, help="weight of the process score in the blend (0.5)")
    parser.add_argument("--blend-aggregate", choices=NAMES, default="mean", help="of the process score in the blend")
    parser.add_argument("--policy", help="whose candidates these are, to compare with the paper's table")
    parser.add_argument("--seed", type=int, default=0, help="of drawn subsets and intervals")
    add_target(parser)
    return parser


def _check(given: argparse.Namespace) -> None:
    """Before anything is scored."""
    if not 0 <= given.blend <= 1:
        raise EvaluationError("--blend must lie between 0 and 1")
    known = sorted({row.partition(",")[0] for row in published(_PAPER).rows})
    if given.policy is not None and given.policy not in known:
        raise EvaluationError(f"--policy {given.policy}: the paper's are {', '.join(known)}")


def _pools(questions: Mapping[str, Question], runs: Sequence[Run], given: argparse.Namespace) -> list[Pool]:
    """Of each question the candidates that every model scored. Raises EvaluationError when there are none."""
    records: dict[str, Mapping[str, Record]] = {one.served.kind: one.records for one in runs}
    found = []
    for id, question in questions.items():
        chosen = scored_by_all(list(records.values()), id)
        if chosen:
            results = {kind: [by_id[id].results[index] for index in chosen] for kind, by_id in records.items()}
            solutions = [question.candidates[index] for index in chosen]
            found.append(make_pool(f"{given.seed} {id}", question.form, solutions, results))
    if not found:
        raise EvaluationError("no question has a candidate with a score")
    return found


def _describe(
    report: Report, given: argparse.Namespace, questions: Mapping[str, Question], pools: Sequence[Pool]
) -> None:
    right = [solution.correct for question in questions.values() for solution in question.candidates]
    scored = sum(len(pool.correct) for pool in pools)
    largest = max(len(pool.correct) for pool in pools)
    smaller = sum(len(pool.correct) < largest for pool in pools)
    report.facts |= {
        "data": f"{given.candidates}, {len(questions)} questions, {len(right)} candidates",
        "right candidates": f"{100 * mean(right):.1f} %, those without a score too",
        "measured on": f"{len(pools)} questions, {scored} candidates that every model scored",
        "largest pool": f"{largest}; {smaller} questions have fewer, and choose among all of theirs at a larger N",
        "blend": f"{given.blend:g} × process ({given.blend_aggregate}), standardised, rest outcome",
        "seed": given.seed,
    }


def _measure(report: Report, pools: Sequence[Pool], given: argparse.Namespace) -> None:
    sizes = _sizes(max(len(pool.correct) for pool in pools))
    figures: Figures = {
        selector: {
            n: [accuracy(pool, selector, n, given.blend, given.blend_aggregate) for pool in pools] for n in sizes
        }
        for selector in selectors(pools[0])
    }
    report.tables += [_by_n(figures, sizes, len(pools), given.seed), _by_form(figures, sizes[-1], pools)]
    if given.policy is not None:
        report.tables.append(_against_paper(figures, pools, given.policy))
    lines = [Line(name, [(n, 100 * mean(values)) for n, values in by_n.items()]) for name, by_n in figures.items()]
    title = f"Best-of-N, {len(pools)} questions"
    report.pictures["by_n"] = draw_lines(title, "N", "accuracy, percent", lines, doubling=True)


def _sizes(largest: int) -> list[int]:
    """1, 2, 4, … as far as the pools reach."""
    return [2**power for power in range(largest.bit_length())]


def _by_n(figures: Figures, sizes: Sequence[int], questions: int, seed: int) -> Table:
    bootstrap = Bootstrap(questions, seed)
    rows: list[tuple[Cell, ...]] = []
    for selector, by_n in figures.items():
        low, high = bootstrap.interval(by_n[sizes[-1]])
        rows.append((selector, *(100 * mean(by_n[n]) for n in sizes), 100 * low, 100 * high))
    note = (
        f"Percent over {questions} questions: the mean over all draws of N of a question's candidates. "
        f"The last two columns are the 95 % bootstrap interval at N = {sizes[-1]}."
    )
    return Table("Accuracy by N", note, ("selector", *map(str, sizes), "low", "high"), rows)


def _by_form(figures: Figures, n: int, pools: Sequence[Pool]) -> Table:
    forms = sorted({pool.form for pool in pools})
    rows: list[tuple[Cell, ...]] = []
    for form in forms:
        where = [index for index, pool in enumerate(pools) if pool.form == form]
        found = (100 * mean([by_n[n][index] for index in where]) for by_n in figures.values())
        rows.append((form, len(where), *found))
    return Table("By form", f"Percent at N = {n}.", ("form", "questions", *figures), rows)


def _against_paper(figures: Figures, pools: Sequence[Pool], policy: str) -> Table:
    """Deviations where forms are the paper's benchmarks; overall is their plain mean, so only where all are there."""
    paper = published(_PAPER)
    rows: list[tuple[Cell, ...]] = []
    for setting, selector, n in (("pass@1", "random", 1), (f"best of {_PAPER_N}", "process, mean", _PAPER_N)):
        by_form: dict[str, list[float]] = defaultdict(list)
        for pool, value in zip(pools, figures.get(selector, {}).get(n, ()), strict=False):
            by_form[pool.form].append(100 * value)
        means = {form: mean(values) for form, values in sorted(by_form.items())}
        there = {form: paper.find(f"{policy}, {setting}", form) for form in means}
        if None not in there.values() and len(there) == len(paper.columns) - 1:
            means |= {_OVERALL: mean(list(means.values()))}
            there |= {_OVERALL: paper.find(f"{policy}, {setting}", _OVERALL)}
        rows += [(setting, form, here, there[form], deviation(here, there[form])) for form, here in means.items()]
    columns = ("setting", "form", "here", policy, "deviation")
    return Table("Against the paper", f"{paper.title}; {paper.source}.", columns, rows)


if __name__ == "__main__":
    sys.exit(run(main))
