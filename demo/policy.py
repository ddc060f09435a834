"""A seeded policy to select from: most of its candidates misperceive the fact that the question turns on.

Four in ten of its candidates are right. The others misperceive that fact once and stay consistent with what they saw,
60 % of a question's errors in the same way.

python -m demo.policy --split test --seed 0 --candidates 8 --out FILE
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from demo.chains import Chain, reason
from demo.facts import ALL_FACTS, Facts, Picture, Split, pictures
from demo.questions import Question, every_question

_RIGHT, _SHARED = 0.4, 0.6
QUESTIONS = 320


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about a picture."""

    question: Question
    picture: Picture

    @property
    def answer(self) -> str:
        return self.question.answer(self.picture.facts)


def draw_questions(split: Split, seed: int, count: int = QUESTIONS) -> list[Asked]:
    """Questions of all forms about the split's pictures, each form and each of its answers as often as another.

    easy-vqa itself asks mostly for colors that are absent, so that guessing would pay.
    """
    random = Random(f"questions/{seed}")
    buckets: dict[tuple[str, str], list[Asked]] = defaultdict(list)
    for picture in pictures(split):
        for question in every_question():
            if question.suits(picture.facts):
                buckets[question.form, question.answer(picture.facts)].append(Asked(question, picture))
    by_form: dict[str, list[Iterator[Asked]]] = defaultdict(list)
    for (form, _), bucket in sorted(buckets.items()):
        random.shuffle(bucket)
        by_form[form].append(iter(bucket))
    return list(islice(_round_robin([_round_robin(answers) for answers in by_form.values()]), count))


def candidates(asked: Asked, seed: int, count: int) -> list[Chain]:
    """The first `count` chains that the policy answers with: more of them begin with the same ones."""
    random, shared = _start(asked, seed)
    facts, others = asked.picture.facts, _others(asked, shared)
    chains = []
    for _ in range(count):
        seen = facts
        if random.random() >= _RIGHT:
            seen = shared if random.random() < _SHARED else random.choice(others)
        chains.append(reason(asked.question, seen, random))
    return chains


def perceptions(asked: Asked, seed: int) -> dict[Facts, float]:
    """What the policy takes the picture to show, each with its probability."""
    _, shared = _start(asked, seed)
    others = _others(asked, shared)
    seen = defaultdict[Facts, float](float)
    seen[asked.picture.facts] += _RIGHT
    seen[shared] += (1 - _RIGHT) * _SHARED
    for other in others:
        seen[other] += (1 - _RIGHT) * (1 - _SHARED) / len(others)
    return dict(seen)


def misperceptions(question: Question, facts: Facts) -> list[Facts]:
    """What differs from the picture in the fact that decides the answer, and gives another one."""
    kept = "color" if question.matter == "shape" else "shape"
    return sorted(
        seen
        for seen in ALL_FACTS
        if getattr(seen, kept) == getattr(facts, kept) and question.answer(seen) != question.answer(facts)
    )


def write(path: Path, asked: Sequence[Asked], seed: int, count: int) -> None:
    """JSON Lines: a question, its picture's file and the candidates, each with its steps."""
    with path.open("w", encoding="utf-8") as file:
        for one in asked:
            print(json.dumps(_record(one, candidates(one, seed, count))), file=file)


def _start(asked: Asked, seed: int) -> tuple[Random, Facts]:
    """What draws a question's candidates, and the misperception that most of the wrong ones share."""
    random = Random(f"{seed}/{asked.picture.path.name}/{asked.question.text}")
    return random, random.choice(misperceptions(asked.question, asked.picture.facts))


def _others(asked: Asked, shared: Facts) -> list[Facts]:
    return [seen for seen in misperceptions(asked.question, asked.picture.facts) if seen != shared] or [shared]


def _record(asked: Asked, chains: Sequence[Chain]) -> dict[str, object]:
    facts = asked.picture.facts
    return {
        "question": asked.question.text,
        "image": str(asked.picture.path),
        "candidates": [
            {"steps": list(chain.texts), "answer": chain.answer, "correct": chain.succeeds(facts)} for chain in chains
        ],
        "answer": asked.answer,
        "form": asked.question.form,
    }


def _round_robin(sources: Sequence[Iterator[Asked]]) -> Iterator[Asked]:
    """One of each in turn, until one has no more."""
    while True:
        for source in sources:
            found = next(source, None)
            if found is None:
                return
            yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--split", choices=["train", "test"], default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    write(options.out, draw_questions(options.split, options.seed, options.questions), options.seed, options.candidates)


if __name__ == "__main__":
    main()
