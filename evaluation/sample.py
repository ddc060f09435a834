"""`python -m evaluation.sample`: candidates for best_of_n from any OpenAI-compatible endpoint."""

import argparse
import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import BaseModel

from evaluation.candidates import NO_FORM, Answer
from evaluation.command import run
from evaluation.endpoint import Endpoint, Sampling
from evaluation.errors import EvaluationError, Interrupted, Refused
from evaluation.journal import Journal, open_journal, read_lines
from evaluation.progress import Progress
from evaluation.reading import find_pictures, name_items, read_items
from evaluation.solutions import is_right, split_steps
from steelyard.best_of_n import final_answer

_INSTRUCTION = "Reason step by step with a blank line after each step, and end with a line `Answer: …`."


class Asked(BaseModel):
    """One line of the questions."""

    id: str | int | None = None
    question: str
    image: str | list[str] | None = None
    answer: Answer = None
    form: str = NO_FORM


class Sample(BaseModel):
    """One answer of the policy, as it came."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """One answer that is wanted."""

    key: str
    asked: Asked
    images: tuple[Path, ...]
    seed: int


def main(arguments: Sequence[str]) -> None:
    """Raises EvaluationError."""
    given = _parser().parse_args(arguments)
    if given.n < 1 or given.in_flight < 1:
        raise EvaluationError("--n and --in-flight must be at least 1")
    asked = name_items(read_items(given.questions, Asked))
    sampling = Sampling(given.model, given.temperature, given.max_tokens, given.instruction)
    wanted = _requests(asked, sampling, given)
    journal_path = given.out.with_name(given.out.name + ".samples.jsonl")
    with open_journal(journal_path) as journal:
        texts = {sample.key: sample.text for sample in read_lines(journal_path, Sample)}
        missing = [request for requests in wanted.values() for request in requests if request.key not in texts]
        texts |= asyncio.run(_sample(missing, sampling, journal, given, kept=given.n * len(wanted) - len(missing)))
    _write(given.out, asked, wanted, texts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation.sample", description=__doc__)
    parser.add_argument("--endpoint", required=True, help="up to and with /v1; OPENAI_API_KEY is its key")
    parser.add_argument("--model", required=True)
    parser.add_argument("--questions", type=Path, required=True, help="JSON Lines: question, image, answer, form")
    parser.add_argument("--images", type=Path, help="folder of the pictures; default the questions' folder")
    parser.add_argument("--n", type=int, default=8, help="candidates a question (8)")
    parser.add_argument("--out", type=Path, required=True, help="file of the candidates; samples are kept beside it")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--max-tokens", type=int, default=2048)
    parser.add_argument("--instruction", default=_INSTRUCTION, help="after the question")
    parser.add_argument("--seed", type=int, default=0, help="of the first candidate; the next has the next")
    parser.add_argument("--in-flight", type=int, default=16, help="requests under way at a time (16)")
    parser.add_argument("--retry-for", type=float, default=120.0, help="seconds before the endpoint is given up")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one answer")
    return parser


def _requests(
    asked: Mapping[str, tuple[str, Asked]], sampling: Sampling, given: argparse.Namespace
) -> dict[str, list[Request]]:
    wanted = {}
    for id, (place, one) in asked.items():
        images = find_pictures(place, "image", one.image, given.images or given.questions.parent)
        pictures = [hashlib.sha256(path.read_bytes()).hexdigest() for path in images]
        inputs = json.dumps([id, one.question, pictures, asdict(sampling)])
        seeds = range(given.seed, given.seed + given.n)
        keys = {seed: hashlib.sha256(f"{seed} {inputs}".encode()).hexdigest()[:32] for seed in seeds}
        wanted[id] = [Request(keys[seed], one, images, seed) for seed in seeds]
    return wanted


async def _sample(
    missing: Sequence[Request], sampling: Sampling, journal: Journal, given: argparse.Namespace, kept: int
) -> dict[str, str]:
    """Key → text, each kept as soon as it is there."""
    texts: dict[str, str] = {}
    refusals: list[Refused] = []
    progress = Progress(sampling.model, kept + len(missing), kept, sys.stderr)
    waiting = iter(missing)
    key = os.environ.get("OPENAI_API_KEY")

    async def work(endpoint: Endpoint) -> None:
        for request in waiting:
            try:
                text = await endpoint.answer(request.asked.question, request.images, request.seed)
            except Refused as error:
                refusals.append(error)
            else:
                journal.append(Sample(key=request.key, text=text).model_dump_json())
                texts[request.key] = text
            progress.advance(failed=not texts.get(request.key, "").strip())

    try:
        async with (
            Endpoint(given.endpoint, key, sampling, given.retry_for, given.timeout) as endpoint,
            asyncio.TaskGroup() as workers,
        ):
            for _ in range(min(given.in_flight, len(missing))):
                workers.create_task(work(endpoint))
    except* EvaluationError as errors:
        done = f"{progress.done} samples are kept in {journal.path}: the same command goes on from there"
        raise Interrupted(f"{errors.exceptions[0]}; {done}") from None
    finally:
        progress.close()
    if refusals and not texts and not kept:
        raise EvaluationError(f"every request was refused; the first: {refusals[0]}")
    if refusals:
        print(f"{len(refusals)} requests were refused; the first: {refusals[0]}", file=sys.stderr)
    return texts


def _write(
    out: Path, asked: Mapping[str, tuple[str, Asked]], wanted: Mapping[str, Sequence[Request]], texts: Mapping[str, str]
) -> None:
    """The candidates' file; no answer or an empty one is no candidate, a question without any is left out."""
    lines, empty = [], 0
    for id, (_, one) in asked.items():
        found = [text for request in wanted[id] if (text := texts.get(request.key, "")).strip()]
        candidates = [_solution(text, one.answer) for text in found]
        empty += len(wanted[id]) - len(found)
        if candidates:
            fields = one.model_dump(exclude_none=True) | {"id": id, "candidates": candidates}
            lines.append(json.dumps(fields, ensure_ascii=False) + "\n")
    out.write_text("".join(lines), encoding="utf-8")
    print(
        f"{out}: {len(lines)} questions, {sum(map(len, wanted.values())) - empty} candidates, {empty} without an answer"
    )


def _solution(text: str, expected: Answer) -> Mapping[str, object]:
    answer = final_answer(text)
    return {"steps": split_steps(text), "answer": answer, "correct": is_right(answer, expected)}


if __name__ == "__main__":
    sys.exit(run(main))
