"""`python -m evaluation.process_bench`: verdicts on single steps, by VisualProcessBench's data and measure."""

import argparse
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, model_validator

from evaluation.chart import Line, draw_lines
from evaluation.command import run
from evaluation.errors import EvaluationError
from evaluation.groups import Group
from evaluation.published import deviation, published
from evaluation.reading import find_pictures, name_items, read_items
from evaluation.records import Record
from evaluation.report import Cell, Report, Table, command_line, failures, run_facts
from evaluation.session import add_target, read_target, score_groups
from evaluation.step_f1 import CORRECT, INCORRECT, NEUTRAL, LabelledScores

_PAPER, _PAPER_ROW = "visualprm_process_bench", "VisualPRM-8B"


class Response(BaseModel):
    """A solution and a label for each of its steps: 1 correct, 0 neutral, -1 incorrect."""

    steps: list[str]
    process_correctness: list[Literal[1, 0, -1]]

    @model_validator(mode="after")
    def _labelled(self) -> "Response":
        if not self.steps or len(self.steps) != len(self.process_correctness):
            raise ValueError(f"{len(self.steps)} steps have {len(self.process_correctness)} labels")
        return self


class Item(BaseModel):
    """One line of VisualProcessBench's `test.jsonl`."""

    id: str | int | None = None
    image: str | list[str] | None = None
    question: str
    response: Response
    data_source: str
    policy_model: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """One scored solution."""

    source: str
    steps: tuple[tuple[float, int], ...]


def main(arguments: Sequence[str]) -> None:
    """Raises EvaluationError."""
    given = _parser().parse_args(arguments)
    target = read_target(given)
    if not 0 < given.development < 1:
        raise EvaluationError("--development must lie between 0 and 1")
    items, groups = _read(given.data, given.images or given.data.parent)
    (scored,) = score_groups(target, groups, kinds=("steps",))
    report = Report("VisualProcessBench", command_line("process_bench", arguments))
    report.facts |= run_facts([scored], target) | {"data": f"{given.data}, {len(items)} solutions"}
    judged = _judge(items, scored.records)
    _measure(report, judged, given)
    report.tables += failures(scored.records.values())
    report.write(target.out)
    print(report.markdown(), end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation.process_bench", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="JSON Lines as in VisualProcessBench")
    parser.add_argument("--images", type=Path, help="folder of the pictures; default the data's folder")
    parser.add_argument("--threshold", type=float, help="a step is correct above it; default: chosen on a part")
    parser.add_argument("--development", type=float, default=0.2, help="share of the solutions it is chosen on (0.2)")
    parser.add_argument("--seed", type=int, default=0, help="of the split into development and test part")
    add_target(parser)
    return parser


def _read(data: Path, images: Path) -> tuple[dict[str, Item], list[Group]]:
    named = name_items(read_items(data, Item))
    groups = [
        Group(id, item.question, find_pictures(place, "image", item.image, images), (tuple(item.response.steps),))
        for id, (place, item) in named.items()
    ]
    return {id: item for id, (_, item) in named.items()}, groups


def _judge(items: Mapping[str, Item], records: Mapping[str, Record]) -> dict[str, Judged]:
    """The solutions that have scores. Raises EvaluationError when none has."""
    judged = {}
    for id, item in items.items():
        (result,) = records[id].results
        if result.step_scores is not None:
            steps = tuple(zip(result.step_scores, item.response.process_correctness, strict=True))
            judged[id] = Judged(item.data_source, steps)
    if not judged:
        first = next(iter(records.values())).results[0]
        raise EvaluationError(f"no solution has a score; the first: {first.status}: {first.detail}")
    return judged


def _measure(report: Report, judged: Mapping[str, Judged], given: argparse.Namespace) -> None:
    development, test = _split(judged, given)
    chosen = _scores(development)
    threshold = given.threshold if given.threshold is not None else chosen.best_threshold()
    how = f"chosen on {len(development)} solutions, {len(chosen)} steps" if development else "given"
    report.facts |= {"threshold": f"{threshold:.6g} ({how})", "measured on": f"{len(test)} solutions"}
    report.tables += [_by_source(test, threshold)]
    report.tables += [_labels(test)]
    curves = [Line("test", [(x, 100 * y) for x, y in _scores(test).curve()])]
    if development:
        curves.append(Line("development", [(x, 100 * y) for x, y in chosen.curve()]))
    title = f"Macro-F1 by threshold, {len(test)} solutions"
    report.pictures["threshold"] = draw_lines(title, "threshold on P(+)", "macro-F1, percent", curves)


def _split(judged: Mapping[str, Judged], given: argparse.Namespace) -> tuple[list[Judged], list[Judged]]:
    """Development and test part; which solutions were scored this time does not move the others."""
    if given.threshold is not None:
        return [], list(judged.values())
    drawn = {id: random.Random(f"{given.seed} {id}").random() < given.development for id in judged}
    parts = [judged[id] for id in judged if drawn[id]], [judged[id] for id in judged if not drawn[id]]
    if not all(parts):
        raise EvaluationError("too few solutions to choose a threshold on a part of them; give --threshold")
    return parts


def _by_source(test: Sequence[Judged], threshold: float) -> Table:
    by_source: dict[str, list[Judged]] = defaultdict(list)
    for solution in test:
        by_source[solution.source].append(solution)
    rows = [_row(source, by_source[source], threshold) for source in sorted(by_source)]
    rows.append(_row("Overall", test, threshold))
    note = (
        "Percent. Macro-F1 is the mean of the F1 of correct and of incorrect steps; neutral steps are left out; "
        f"overall pools the steps of all sources. The paper's {_PAPER_ROW}: {published(_PAPER).source}."
    )
    columns = ("source", "solutions", "steps", "F1 correct", "F1 incorrect", "macro-F1", _PAPER_ROW, "deviation")
    return Table("Macro-F1", note, columns, rows)


def _row(name: str, solutions: Sequence[Judged], threshold: float) -> tuple[Cell, ...]:
    scores = _scores(solutions)
    verdicts = scores.verdicts(threshold)
    macro = 100 * verdicts.macro_f1
    paper = published(_PAPER).find(_PAPER_ROW, name)
    figures = (100 * verdicts.f1_correct, 100 * verdicts.f1_incorrect, macro)
    return name, len(solutions), len(scores), *figures, paper, deviation(macro, paper)


def _labels(test: Sequence[Judged]) -> Table:
    labels = Counter(label for solution in test for _, label in solution.steps)
    rows = [
        (name, labels[label]) for name, label in (("correct", CORRECT), ("incorrect", INCORRECT), ("neutral", NEUTRAL))
    ]
    return Table("Steps by label", "In the measured part.", ("label", "steps"), rows)


def _scores(solutions: Iterable[Judged]) -> LabelledScores:
    return LabelledScores([step for solution in solutions for step in solution.steps])


if __name__ == "__main__":
    sys.exit(run(main))
