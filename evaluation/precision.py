"""`python -m evaluation.precision`: what another precision changes, in scores, in their order and in accuracy."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from evaluation.aggregates import NAMES
from evaluation.agreement import Pair, agreement, pair_up
from evaluation.candidates import read_questions
from evaluation.chart import Line, draw_lines
from evaluation.command import run
from evaluation.errors import EvaluationError
from evaluation.groups import Group, Settings, hash_inputs
from evaluation.intervals import Bootstrap, mean
from evaluation.records import FILE, Record, read_records
from evaluation.report import Cell, Report, Table, command_line
from evaluation.session import DTYPES, Target, add_settings, score_groups

_SIDES = ("a", "b")


def main(arguments: Sequence[str]) -> None:
    """Raises EvaluationError."""
    given = _parser().parse_args(arguments)
    questions, groups = read_questions(given.candidates, given.images) if given.candidates else ({}, [])
    report = Report("Agreement of two runs", command_line("precision", arguments))
    a, b = (_records(side, given, groups) for side in _SIDES)
    for side, records in zip(_SIDES, (a, b), strict=True):
        first = next(iter(records.values()))
        report.facts[side] = f"{first.model}, {first.dtype}, weights {first.weights}, {len(records)} groups"
    pairs = pair_up(a, b, questions, given.aggregate)
    if not pairs:
        raise EvaluationError("no group was scored by both, with the same inputs")
    report.facts |= {"compared": f"{len(pairs)} groups, {sum(len(pair.a) for pair in pairs)} candidates"}
    _measure(report, pairs, given)
    given.out.mkdir(parents=True, exist_ok=True)
    report.write(given.out)
    print(report.markdown(), end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation.precision", description=__doc__)
    for side in _SIDES:
        parser.add_argument(f"--{side}", required=True, help="an earlier run's folder, a checkpoint's folder or a URL")
        parser.add_argument(f"--{side}-dtype", choices=DTYPES, help="of a checkpoint's server")
    parser.add_argument("--candidates", type=Path, help="as of best_of_n: what is scored, and which answers are right")
    parser.add_argument("--images", type=Path, help="folder of the pictures; default the candidates' folder")
    parser.add_argument("--model", action="append", default=[], help="the served name, where several could be meant")
    parser.add_argument("--aggregate", choices=NAMES, default="mean", help="of step scores")
    parser.add_argument("--seed", type=int, default=0, help="of intervals")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report, and of records made for it")
    add_settings(parser)
    return parser


def _records(side: str, given: argparse.Namespace, groups: Sequence[Group]) -> dict[str, Record]:
    """One side's records by id: read where it is an earlier run, else made now. Raises EvaluationError."""
    where = vars(given)[side]
    if (Path(where) / FILE).is_file():
        return _kept(side, Path(where), given, groups)
    if not groups:
        raise EvaluationError(f"--{side} {where}: no earlier run; to score it now, give --candidates")
    dtype = vars(given)[f"{side}_dtype"]
    is_url = where.startswith(("http://", "https://"))
    if is_url and dtype is not None:
        raise EvaluationError(f"--{side}-dtype is that of a checkpoint's server, not of a URL")
    options = {"--dtype": dtype, "--device": given.device, "--threads": given.threads}
    target = Target(
        url=where if is_url else None,
        checkpoints=() if is_url else (Path(where),),
        models=tuple(given.model),
        server_options=tuple(f"{name}={value}" for name, value in options.items() if value is not None and not is_url),
        settings=Settings(given.max_tiles, given.control_tokens),
        in_flight=given.in_flight,
        retry_s=given.retry_for,
        out=given.out / side,
    )
    (found,) = score_groups(target, groups, kinds=("steps", "outcome"))
    return found.records


def _kept(side: str, folder: Path, given: argparse.Namespace, groups: Sequence[Group]) -> dict[str, Record]:
    """One model's records in a run's folder; with candidates given, those of just these inputs."""
    records = [record for record in read_records(folder / FILE) if not given.model or record.model in given.model]
    makers = sorted({f"{record.model} ({record.dtype}, {record.weights})" for record in records})
    if len(makers) != 1:
        raise EvaluationError(f"--{side} {folder}: one model's records are needed (--model), it has {makers or 'none'}")
    inputs = hash_inputs(groups, Settings(given.max_tiles, given.control_tokens))
    found = {record.id: record for record in records if not groups or inputs.get(record.id) == record.input}
    if not found:
        raise EvaluationError(f"--{side} {folder}: its records are of other candidates, pictures or settings")
    return found


def _measure(report: Report, pairs: Sequence[Pair], given: argparse.Namespace) -> None:
    found = agreement(pairs)
    rows: list[tuple[Cell, ...]] = [
        ("Kendall's tau-b, mean over groups", found.tau_b, found.tau_b_groups),
        ("same best candidate, share of groups", found.same_best, found.ordered_groups),
        ("median difference of a candidate's score", median(found.differences), len(found.differences)),
        ("largest difference of a candidate's score", max(found.differences), len(found.differences)),
    ]
    shown = [(name, None if value is None else f"{value:.6g}", count) for name, value, count in rows]
    note = "Only candidates that both scored; order in groups of two or more, tau-b where both sides order anything."
    report.tables.append(Table("Agreement", note, ("figure", "value", "n"), shown))
    if labelled := [pair for pair in pairs if pair.correct]:
        report.tables.append(_accuracy(labelled, given.seed))
    ordered = sorted(found.differences)
    points = [(100 * (index + 1) / len(ordered), value) for index, value in enumerate(ordered)]
    title = f"Difference of scores, {len(ordered)} candidates"
    report.pictures["differences"] = draw_lines(title, "percent of candidates", "at most", [Line("|a - b|", points)])


def _accuracy(pairs: Sequence[Pair], seed: int) -> Table:
    by_side = {"a": [pair.accuracy(pair.a) for pair in pairs], "b": [pair.accuracy(pair.b) for pair in pairs]}
    change = [b - a for a, b in zip(by_side["a"], by_side["b"], strict=True)]
    bootstrap = Bootstrap(len(pairs), seed)
    rows: list[tuple[Cell, ...]] = []
    for name, values in (by_side | {"b less a": change}).items():
        low, high = bootstrap.interval(values)
        rows.append((name, 100 * mean(values), 100 * low, 100 * high))
    note = f"Percent of {len(pairs)} questions whose best candidate is right, with the 95 % bootstrap interval."
    return Table("Accuracy", note, ("run", "accuracy", "low", "high"), rows)


if __name__ == "__main__":
    sys.exit(run(main))
