"""`python -m evaluation.pairwise`: how often the better answer scores higher, on three benchmarks' own files."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.aggregates import NAMES
from evaluation.candidates import value_of
from evaluation.command import run
from evaluation.errors import EvaluationError
from evaluation.pairwise_formats import FORMATS, Comparison
from evaluation.pairwise_tables import Scored, add_pairs, add_paper, add_styles
from evaluation.records import Record
from evaluation.report import Report, command_line, failures, run_facts
from evaluation.session import add_target, read_target, score_groups

_PAPER = {"vl_rewardbench": "ixc_vl_rewardbench", "rewardbench": "ixc_rewardbench", "rm_bench": "ixc_rm_bench"}
_TITLE = {"vl_rewardbench": "VL-RewardBench", "rewardbench": "RewardBench", "rm_bench": "RM-Bench"}


def main(arguments: Sequence[str]) -> None:
    """Raises EvaluationError."""
    given = _parser().parse_args(arguments)
    target = read_target(given)
    comparisons = FORMATS[given.format](given.data, given.images or given.data.parent, given.seed)
    (found,) = score_groups(target, [one.scored for one in comparisons], kinds=("steps", "outcome"))
    scored = _scored(comparisons, found.records, given)
    report = Report(_TITLE[given.format], command_line("pairwise", arguments))
    report.facts |= run_facts([found], target)
    if found.served.kind == "steps":
        report.facts["answer's score"] = f"{given.aggregate} of its step scores"
    report.facts |= {
        "data": f"{given.data}, {len(comparisons)} items",
        "measured on": f"{len(scored)} items, all of whose answers have a score",
        "seed": given.seed,
    }
    if given.format == "rm_bench":
        figures = add_styles(report, scored)
    else:
        # The reference ranks VL-RewardBench's pairs, and compares RewardBench's.
        figures = add_pairs(report, scored, given.seed, ranked=given.format == "vl_rewardbench")
    add_paper(report, _PAPER[given.format], figures)
    report.tables += failures(found.records.values())
    report.write(target.out)
    print(report.markdown(), end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation.pairwise", description=__doc__)
    parser.add_argument("--format", choices=sorted(FORMATS), required=True)
    parser.add_argument("--data", type=Path, required=True, help="JSON Lines or a JSON array in the benchmark's format")
    parser.add_argument("--images", type=Path, help="folder of the pictures; default the data's folder")
    parser.add_argument("--aggregate", choices=NAMES, default="mean", help="of step scores, for a process reward model")
    parser.add_argument("--seed", type=int, default=0, help="of VL-RewardBench's order of answers, and of intervals")
    add_target(parser)
    return parser


def _scored(
    comparisons: Sequence[Comparison], records: Mapping[str, Record], given: argparse.Namespace
) -> list[Scored]:
    """Those whose candidates all have a score. Raises EvaluationError when there are none."""
    scored: list[Scored] = []
    for one in comparisons:
        values = [value_of(result, given.aggregate) for result in records[one.scored.id].results]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            scored.append((one, known))
    if not scored:
        first = next(result for record in records.values() for result in record.results if result.status != "ok")
        raise EvaluationError(f"no item has all its scores; the first without: {first.status}: {first.detail}")
    return scored


if __name__ == "__main__":
    sys.exit(run(main))
