"""Solutions that grow by a step at a time, the best of them kept: pure policy.

The search of Snell et al., "Scaling LLM Test-Time Compute Optimally" (2024), by a process reward model.
"""

from collections.abc import Sequence

from steelyard.best_of_n.candidates import Candidate, Draw
from steelyard.best_of_n.choosing import Choice, best_of
from steelyard.best_of_n.search import Limits, Reward, Why
from steelyard.best_of_n.strategies import StepBeam
from steelyard.errors import InvalidCall


class Beam:
    """A depth is judged when all its draws have settled, so that arrival decides nothing."""

    def __init__(self, strategy: StepBeam, limits: Limits, reward: Reward) -> None:
        if reward.kind != "steps":
            raise InvalidCall("StepBeam: needs one process reward model, which scores a solution's steps")
        self._strategy, self._limits = strategy, limits
        self._kept: list[Candidate] = []
        self._children: list[Candidate] = []
        self._settled: list[Candidate] = []
        self._waiting = [Draw(number, limits.seed_of(number)) for number in range(strategy.keep * strategy.propose)]
        self._drawn = len(self._waiting)
        self._open = len(self._waiting)
        self._holding: set[int] = set()
        self._depth = 1
        self._tokens = 0
        self.stopped: Why | None = None

    def due(self) -> list[Draw]:
        free = 0 if self.stopped else self._limits.in_flight - len(self._holding)
        draws, self._waiting = self._waiting[:free], self._waiting[free:]
        self._holding |= {draw.number for draw in draws}
        return draws

    def generated(self, number: int) -> None:
        self._holding.discard(number)

    def settle(self, candidate: Candidate) -> None:
        if self.stopped is not None:
            return
        self._holding.discard(candidate.number)
        self._tokens += candidate.tokens
        self._open -= 1
        self._children.append(candidate)
        self._settled.append(candidate)
        if not self._open:
            self._judge()

    def pass_time(self, now_s: float) -> None:
        if self.stopped is None and self._limits.seconds is not None and now_s >= self._limits.seconds:
            # Whole solutions of the depth that is half done count, too.
            self._kept = _best(self._kept + self._children, self._strategy.keep)
            self.stopped = "the time budget was spent"

    def is_finished(self, text: str, ended: bool | None) -> bool:
        return ended is True or self._strategy.extract(text) is not None

    def choose(self) -> Choice | None:
        """The best whole solution; where there is none, the best that there is of one."""
        whole = [candidate for candidate in self._kept if candidate.finished] or self._kept
        if not whole:
            return None
        best = best_of(whole)
        return Choice(best, self._strategy.extract(best.text), {})

    def counted(self) -> Sequence[Candidate]:
        return sorted(self._settled, key=lambda candidate: candidate.number)

    def _judge(self) -> None:
        """Keep the best of what has ended and of what has grown, and say what each of them is to grow by."""
        ended = [candidate for candidate in self._kept if candidate.finished]
        grown = _best(ended + self._children, self._strategy.keep)
        if not any(candidate.status == "ok" for candidate in self._children):
            self.stopped = "no continuation could be scored"
            return
        self._kept, self._children = grown, []
        self.stopped = self._why()
        if self.stopped is None:
            self._propose()

    def _why(self) -> Why | None:
        if all(candidate.finished for candidate in self._kept):
            return "every kept solution has ended"
        if self._depth >= self._strategy.max_steps:
            return "the step limit was reached"
        spent = self._limits.tokens is not None and self._tokens >= self._limits.tokens
        return "the token budget was spent" if spent else None

    def _propose(self) -> None:
        parents = [candidate for candidate in self._kept if not candidate.finished]
        for parent in parents:
            for _ in range(self._strategy.propose):
                draw = Draw(self._drawn, self._limits.seed_of(self._drawn), parent.steps, parent.number)
                self._waiting.append(draw)
                self._drawn += 1
        self._open = len(self._waiting)
        self._depth += 1


def _best(candidates: Sequence[Candidate], keep: int) -> list[Candidate]:
    """The best scored ones, of equal solutions the first alone."""
    scored = [candidate for candidate in candidates if candidate.status == "ok"]
    ordered = sorted(scored, key=lambda candidate: (-(candidate.score or 0.0), candidate.number))
    different = {candidate.steps: candidate for candidate in reversed(ordered)}
    return [candidate for candidate in ordered if different[candidate.steps] is candidate][:keep]
