"""`python -m evaluation.showcase`: one question drawn, its candidates best first, their steps coloured by score."""

import argparse
import base64
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation.candidates import Question, read_questions
from evaluation.command import run
from evaluation.errors import EvaluationError
from evaluation.groups import Group
from evaluation.records import Result
from evaluation.session import add_target, read_target, score_groups
from evaluation.steps_svg import Shown, draw_steps


def main(arguments: Sequence[str]) -> None:
    """Raises EvaluationError."""
    given = _parser().parse_args(arguments)
    target = read_target(given)
    questions, groups = read_questions(given.candidates, given.images)
    if not 1 <= given.line <= len(groups):
        raise EvaluationError(f"--line {given.line}: {given.candidates} has {len(groups)} questions")
    group = groups[given.line - 1]
    question = questions[group.id]
    chosen = _varied(question, given.most)
    asked = Group(group.id, group.question, group.images, tuple(group.candidates[index] for index in chosen))
    (scored,) = score_groups(target, [asked], kinds=("steps",))
    results = scored.records[group.id].results
    shown = [_shown(question, index, result) for index, result in zip(chosen, results, strict=True)]
    target.out.mkdir(parents=True, exist_ok=True)
    picture = base64.b64encode(group.images[0].read_bytes()).decode() if group.images else None
    path = target.out / "showcase.svg"
    path.write_text(draw_steps(group.question, picture, shown), encoding="utf-8")
    print(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation.showcase", description=__doc__)
    parser.add_argument("--candidates", type=Path, required=True, help="JSON Lines, as best_of_n takes them")
    parser.add_argument("--line", type=int, default=1, help="which question, from 1")
    parser.add_argument("--most", type=int, default=4, help="candidates shown (4)")
    parser.add_argument("--images", type=Path, help="folder of the pictures; default the candidates' folder")
    add_target(parser)
    return parser


def _varied(question: Question, most: int) -> list[int]:
    """Different ones, right and wrong in turn as far as there are both, in the order given."""
    first = {tuple(solution.steps): index for index, solution in reversed(list(enumerate(question.candidates)))}
    different = sorted(first.values())
    right = [index for index in different if question.candidates[index].correct]
    wrong = [index for index in different if not question.candidates[index].correct]
    share = max(most - len(wrong), min(len(right), (most + 1) // 2))
    return sorted([*right[:share], *wrong[: most - min(share, len(right))]])


def _shown(question: Question, index: int, result: Result) -> Shown:
    solution = question.candidates[index]
    steps = result.step_scores or (None,) * len(solution.steps)
    unscored = None if result.score is not None else result.status
    return Shown(result.score, tuple(zip(solution.steps, steps, strict=True)), solution.correct, unscored)


if __name__ == "__main__":
    sys.exit(run(main))
