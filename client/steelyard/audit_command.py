"""What `steelyard audit` does."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from steelyard.arguments import Arguments
from steelyard.data.json_lines import JsonLines
from steelyard.data.progress import shown
from steelyard.data.records import BadRecord, Record
from steelyard.display import visible
from steelyard.errors import InvalidCall
from steelyard.requests import describe
from steelyard.rewards.audit import Audit, AuditRecord, Findings, Trick
from steelyard.rewards.perturbations import MOST_CLASSES
from steelyard.rewards.shipped import SHIPPED, shipped
from steelyard.rewards.specification import Specification
from steelyard.rewards.tags import solution_content

_CLEAN, _PAYS = 0, 1
_RESPONSES, _TRUTHS = ("response", "content", "completion"), ("truth", "solution", "ground_truth")
# More are found in the JSON.
_SHOWN_DISAGREEMENTS = 10
_MOST_CLASS_CHARACTERS = 200
_EXAMPLE_CHARACTERS = 100


def run_audit(given: Arguments) -> int:
    """The exit code. Raises SteelyardError."""
    file = Path(given.records)
    if not file.is_file():
        raise InvalidCall(f"{file}: there is no such file")
    specification = None if given.specification is None else _in_mode(read_specification(given.specification), given)
    source = JsonLines(file)
    survey = source.survey()
    response = _column(given.response, _RESPONSES, survey.columns, "--response")
    truth = _column(given.truth, _TRUTHS, survey.columns, "--truth")
    classes = _classes(source, truth)
    findings = Findings()
    audits: dict[str, Audit] = {}
    with shown(survey.total, 0, "audited") as tell:
        for done, record in enumerate(source.records(0, survey.columns), 1):
            row = _row(record)
            name = "" if specification is not None else _kind(record, row)
            if name not in audits:
                chosen = specification or _in_mode(_shipped(record, name), given)
                audits[name] = Audit(chosen, classes, findings, given.least_gain)
            audits[name].take(_audited(record, row, response, truth))
            tell(done)
    found = json.dumps(_as_json(findings)) if given.json else "\n".join(_lines(findings))
    sys.stdout.buffer.write(found.encode("utf-8", "backslashreplace") + b"\n")
    return _PAYS if findings.profitable else _CLEAN


def read_specification(text: str) -> Specification:
    """From a JSON file, a shipped one's name, or a sum of terms. Raises InvalidCall."""
    if text in SHIPPED:
        return shipped(text)
    path = Path(text)
    if not (path.suffix == ".json" or path.is_file()):
        return _built({"terms": text}, "--specification")
    try:
        fields = json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidCall(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidCall(f"{path}: is not JSON: {error}") from None
    return _built(fields, str(path))


def _built(fields: object, place: str) -> Specification:
    try:
        return Specification.model_validate(fields)
    except ValidationError as error:
        raise InvalidCall(f"{place}: {describe(error)}") from None


def _in_mode(specification: Specification, given: Arguments) -> Specification:
    if given.mode is None or given.mode == specification.mode:
        return specification
    return specification.in_mode(given.mode)


def _column(given: str | None, usual: Sequence[str], columns: Sequence[str], option: str) -> str:
    name = given if given is not None else next((name for name in usual if name in columns), None)
    if name is None or name not in columns:
        wanted = f"no column {given!r}" if given is not None else f"none of the columns {', '.join(usual)}"
        raise InvalidCall(f"the records have {wanted}; they have {', '.join(columns)}: name one by {option}")
    return name


def _row(record: Record) -> Mapping[str, object]:
    if isinstance(record.row, BadRecord):
        raise InvalidCall(record.row.message)
    return record.row


def _kind(record: Record, row: Mapping[str, object]) -> str:
    kind = row.get("kind")
    if not isinstance(kind, str):
        raise InvalidCall(f"{record.place}: has no column `kind` that names a specification: give a --specification")
    return kind


def _shipped(record: Record, name: str) -> Specification:
    if name not in SHIPPED:
        raise InvalidCall(f"{record.place}: kind {name!r} is no shipped specification; there are {', '.join(SHIPPED)}")
    return shipped(name)


def _audited(record: Record, row: Mapping[str, object], response: str, truth: str) -> AuditRecord:
    texts = [row.get(response), row.get(truth)]
    for name, text in zip((response, truth), texts, strict=True):
        if not isinstance(text, str):
            raise InvalidCall(f"{record.place}: {name} is not a text but {type(text).__name__}")
    served = row.get("served") or {}
    if not isinstance(served, Mapping) or not all(type(score) in (int, float) for score in served.values()):
        raise InvalidCall(f"{record.place}: served is not an object of numbers")
    return AuditRecord(record.place, str(texts[0]), str(texts[1]), served)


def _classes(source: JsonLines, truth: str) -> list[str]:
    """The first short solutions, for tricks that name them all."""
    classes: dict[str, None] = {}
    for record in source.records(0, (truth,)):
        text = None if isinstance(record.row, BadRecord) else record.row.get(truth)
        content = solution_content(text) if isinstance(text, str) else None
        if content and len(content) <= _MOST_CLASS_CHARACTERS:
            classes[content] = None
        if len(classes) >= MOST_CLASSES:
            break
    return list(classes)


def _as_json(findings: Findings) -> dict[str, object]:
    return {
        "records": findings.records,
        "tried": findings.tried,
        "profitable": [_trick_json(trick) for trick in findings.profitable],
        "guesses": [_trick_json(trick) for trick in findings.guesses],
        "disagreements": findings.disagreements,
        "unrewarded": findings.unrewarded,
        "disagreeing": [asdict(one) for one in findings.listed],
    }


def _trick_json(trick: Trick) -> dict[str, object]:
    best = trick.best
    return {"trick": trick.name, "times": trick.times, "best": None if best is None else asdict(best)}


def _lines(findings: Findings) -> Iterator[str]:
    """The table for people."""
    yield f"{findings.records:,} records, {findings.tried:,} tricks tried"
    unrewarded = f"{findings.unrewarded:,} have no reward in either"
    yield f"strict and upstream disagree on {findings.disagreements:,}, {unrewarded}"
    for one in findings.listed[:_SHOWN_DISAGREEMENTS]:
        strict, upstream = _figure(one.strict, one.strict_failure), _figure(one.upstream, one.upstream_failure)
        yield f"  {one.place}: strict {strict}, upstream {upstream}"
    if findings.disagreements > _SHOWN_DISAGREEMENTS:
        yield f"  and {findings.disagreements - _SHOWN_DISAGREEMENTS:,} more: --json lists them"
    yield from _table("tricks that pay", findings.profitable)
    if findings.guesses:
        yield from _table("guesses that pay, which count for nothing", findings.guesses)


def _table(title: str, tricks: Sequence[Trick]) -> Iterator[str]:
    if not tricks:
        yield f"{title}: none"
        return
    yield f"{title}:"
    width = max(len(trick.name) for trick in tricks)
    for trick in tricks:
        best = trick.best
        if best is not None:
            after = _figure(best.after, "not_finite")
            where = f"{best.place}, from {best.start}"
            yield f"  {trick.name:<{width}}  {trick.times:>6,} ×  at most {_figure(best.before)} → {after}  ({where})"
            yield f"  {'':<{width}}  {visible(best.response[:_EXAMPLE_CHARACTERS])}"


def _figure(number: float | None, failure: str | None = None) -> str:
    return failure or "none" if number is None else f"{number:.4g}"
