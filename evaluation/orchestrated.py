"""`python -m evaluation.orchestrated`: Best-of-N as `steelyard.best_of_n` does it, a generator and a scorer over HTTP.

Its candidates and choices are held against the evaluation's own, candidate by candidate; then a step beam against
Best-of-N at equal generated tokens, and an early stop against all N.
"""

import argparse
import asyncio
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evaluation.candidates import Question, read_questions
from evaluation.command import run
from evaluation.errors import EvaluationError
from evaluation.groups import Group
from evaluation.intervals import Bootstrap
from evaluation.report import Report, Table, command_line, run_facts
from evaluation.runs import Outcome, at_tokens, first_past, outcome_of, same_candidates, summary
from evaluation.session import add_target, address, read_target, score_groups
from steelyard.best_of_n import AsyncBestOfN, Best, EarlyStop, StepBeam, Strategy, WeightedVote
from steelyard.errors import SteelyardError

_BEAMS = ("1x2", "1x4", "2x2", "2x4")
# The lowest threshold that loses no more than this on the questions that it is chosen on.
_LOSS = 0.005


def main(arguments: Sequence[str]) -> None:
    """Raises EvaluationError."""
    given = _parser().parse_args(arguments)
    target = read_target(given)
    beams = [_beam(text) for text in given.beams]
    questions, groups = read_questions(given.candidates, given.images)
    asked = [(questions[group.id], group) for group in groups]
    with address(target) as url:
        runs = score_groups(replace(target, url=url, checkpoints=()), groups, kinds=("steps",))
        report = Report("Best-of-N over HTTP", command_line("orchestrated", arguments))
        report.facts |= run_facts(runs, target) | {"questions": len(asked), "n": given.n, "seed": given.seed}
        ask = _Asker(url, given, runs[0].served.name)
        whole = ask.all(asked, Best(), given.n)
        report.tables.append(same_candidates(asked, runs[0].records, whole, given.parity_n))
        _measure_beams(report, ask, asked, whole, beams, given)
        _measure_stops(report, ask, asked, whole, given)
    report.write(target.out)
    print(report.markdown(), end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation.orchestrated", description=__doc__)
    parser.add_argument("--candidates", type=Path, required=True, help="as for best_of_n: what the generator will say")
    parser.add_argument("--images", type=Path, help="folder of the pictures; default the candidates' folder")
    parser.add_argument("--generator", required=True, help="OpenAI-compatible, up to and with /v1")
    parser.add_argument("--generator-model", default="policy")
    parser.add_argument("--n", type=int, default=16, help="candidates of the longest Best-of-N (16)")
    parser.add_argument("--parity-n", type=int, default=8, help="of how many both ways are compared (8)")
    parser.add_argument("--stop-n", type=int, default=8, help="candidates that an early stop may draw (8)")
    parser.add_argument("--beams", nargs="*", default=_BEAMS, help="KEEPxPROPOSE each")
    parser.add_argument("--seed", type=int, default=0, help="of the candidates and of the intervals")
    parser.add_argument("--at-once", type=int, default=8, help="questions under way at a time (8)")
    add_target(parser)
    return parser


def _beam(text: str) -> StepBeam:
    """Raises EvaluationError."""
    try:
        keep, propose = map(int, text.split("x"))
        return StepBeam(keep=keep, propose=propose)
    except (ValueError, SteelyardError):
        raise EvaluationError(f"--beams {text}: of the form KEEPxPROPOSE, such as 2x4") from None


class _Asker:
    """Asks every question by a strategy, some at a time."""

    def __init__(self, url: str, given: argparse.Namespace, model: str) -> None:
        self._url, self._given, self._model = url, given, model

    def all(self, asked: Sequence[tuple[Question, Group]], strategy: Strategy, n: int) -> list[Outcome]:
        """Raises EvaluationError."""
        try:
            return asyncio.run(self._all(asked, strategy, n))
        except SteelyardError as error:
            raise EvaluationError(str(error)) from None

    async def _all(self, asked: Sequence[tuple[Question, Group]], strategy: Strategy, n: int) -> list[Outcome]:
        given = self._given
        places = asyncio.Semaphore(given.at_once)
        best_of_n = AsyncBestOfN(given.generator, given.generator_model, self._url, reward_model=self._model)

        async def one(question: Question, group: Group) -> Outcome:
            async with places:
                answer = await best_of_n.answer(group.question, group.images, n, strategy=strategy, seed=given.seed)
                return outcome_of(question, answer)

        async with best_of_n:
            return await asyncio.gather(*(one(question, group) for question, group in asked))


def _measure_beams(
    report: Report,
    ask: _Asker,
    asked: Sequence[tuple[Question, Group]],
    whole: Sequence[Outcome],
    beams: Sequence[StepBeam],
    given: argparse.Namespace,
) -> None:
    """The curve of Best-of-N, and each beam beside what Best-of-N makes of as many tokens."""
    bootstrap = Bootstrap(len(asked), given.seed)
    sizes = [2**power for power in range(given.n.bit_length())]
    rows = [summary(f"best of {n}", [one.first(n) for one in whole], bootstrap) for n in sizes]
    report.tables.append(Table("Best-of-N", "Percent, its 95 % interval, generated tokens a question.", _COLUMNS, rows))
    against = []
    for beam in beams:
        found = ask.all(asked, beam, given.n)
        name = f"keep {beam.keep}, propose {beam.propose}"
        tokens = sum(one.tokens for one in found) / len(found)
        same = at_tokens(whole, tokens)
        differences = [100 * (float(one.right) - other) for one, other in zip(found, same, strict=True)]
        low, high = bootstrap.interval(differences)
        mean = sum(differences) / len(differences)
        best = 100 * sum(same) / len(same)
        against.append((*summary(name, found, bootstrap), best, mean, low, high))
    note = (
        "Beside each beam what Best-of-N makes of as many tokens on average (between two N on the line that joins "
        "them), and the difference in points with its paired 95 % interval."
    )
    columns = (*_COLUMNS, "best of N", "difference", "from", "to")
    report.tables.append(Table("Step beam at equal tokens", note, columns, against))


_COLUMNS = ("strategy", "accuracy", "low", "high", "candidates", "tokens")


def _measure_stops(
    report: Report,
    ask: _Asker,
    asked: Sequence[tuple[Question, Group]],
    whole: Sequence[Outcome],
    given: argparse.Namespace,
) -> None:
    """A threshold chosen on one half of the questions, measured on the other."""
    n = given.stop_n
    # Drawn, as neighbours in a file may be of kinds that take turns.
    order = random.Random(f"halves/{given.seed}").sample(range(len(asked)), len(asked))
    chosen_on = [whole[place] for place in order[::2]]
    measured_on = [whole[place] for place in order[1::2]]
    threshold = first_past([one.first(n) for one in chosen_on], _LOSS)
    bootstrap = Bootstrap(len(measured_on), given.seed)
    every = [one.first(n) for one in measured_on]
    rows = [(*summary(f"all {n}", every, bootstrap), None, None, None)]
    strategies: dict[str, Strategy] = {
        f"threshold {threshold:.4f}": EarlyStop(threshold),
        "leader cannot be caught, by vote": EarlyStop(of=WeightedVote()),
        f"both, threshold {threshold:.4f}": EarlyStop(threshold, of=WeightedVote()),
    }
    for name, strategy in strategies.items():
        found = ask.all([asked[place] for place in order[1::2]], strategy, n)
        differences = [100 * (one.right - other.right) for one, other in zip(found, every, strict=True)]
        low, high = bootstrap.interval(differences)
        rows.append((*summary(name, found, bootstrap), sum(differences) / len(differences), low, high))
    note = (
        f"The lowest threshold that loses at most {100 * _LOSS:g} points on {len(chosen_on)} questions, measured on "
        f"the other {len(measured_on)}; one candidate at a time. The difference is in points to all {n}, paired."
    )
    report.tables.append(Table("Early stop", note, (*_COLUMNS, "difference", "from", "to"), rows))


if __name__ == "__main__":
    sys.exit(run(main))
