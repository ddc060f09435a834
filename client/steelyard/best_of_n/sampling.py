"""N answers drawn apart from one another, and the rule that may stop before N: pure policy."""

from collections.abc import Sequence

from steelyard.best_of_n.candidates import Candidate, Draw
from steelyard.best_of_n.choosing import Choice, Weigh, logistic, reblended
from steelyard.best_of_n.search import Limits, Reward, Why
from steelyard.best_of_n.strategies import Best, EarlyStop, WeightedVote
from steelyard.errors import InvalidCall


class Sampling:
    """Candidates count in the order of their numbers: one counts when all before it have settled.

    What decides is then the same whichever arrives first; only a time budget takes what is there. Where a rule may
    stop, a draw holds its place until it is scored, so that none is begun that the one before may make needless.
    """

    def __init__(self, n: int, strategy: Best | WeightedVote | EarlyStop, limits: Limits, reward: Reward) -> None:
        if n < 1:
            raise InvalidCall(f"n: {n} is less than 1")
        early = strategy if isinstance(strategy, EarlyStop) else None
        self._chooser = strategy.of if isinstance(strategy, EarlyStop) else strategy
        self._early, self._n, self._limits, self._reward = early, n, limits, reward
        self._places = limits.in_flight if early is None else min(limits.in_flight, early.at_once)
        if early is not None and reward.shares is not None and reward.normalize != "none":
            raise InvalidCall("EarlyStop: a blend's scores depend on the whole group unless normalize is 'none'")
        self._weigh: Weigh = (lambda score: score) if reward.bounded else logistic
        self._holding: set[int] = set()
        self._begun = 0
        self._settled: dict[int, Candidate] = {}
        self._counted: list[Candidate] = []
        self.stopped: Why | None = None

    def due(self) -> list[Draw]:
        draws = []
        while self.stopped is None and self._begun < self._n and len(self._holding) < self._places:
            self._holding.add(self._begun)
            draws.append(Draw(self._begun, self._limits.seed_of(self._begun)))
            self._begun += 1
        return draws

    def generated(self, number: int) -> None:
        if self._early is None:
            self._holding.discard(number)

    def settle(self, candidate: Candidate) -> None:
        self._holding.discard(candidate.number)
        self._settled[candidate.number] = candidate
        while self.stopped is None and len(self._counted) in self._settled:
            self._counted.append(self._settled[len(self._counted)])
            self.stopped = self._why()

    def pass_time(self, now_s: float) -> None:
        if self.stopped is None and self._limits.seconds is not None and now_s >= self._limits.seconds:
            self.stopped = "the time budget was spent"
            self._counted = [self._settled[number] for number in sorted(self._settled)]

    def is_finished(self, text: str, ended: bool | None) -> bool:
        return True

    def choose(self) -> Choice | None:
        scored = self._scored()
        return self._chooser.choose(scored, self._weigh) if scored else None

    def counted(self) -> Sequence[Candidate]:
        scored = {candidate.number: candidate for candidate in self._scored()}
        return [scored.get(candidate.number, candidate) for candidate in self._counted]

    def _scored(self) -> list[Candidate]:
        return reblended(self._counted, self._reward.shares, self._reward.normalize)

    def _why(self) -> Why | None:
        """Whether the last one that counts is the last one."""
        if self._early is not None and (why := self._decided(self._early)):
            return why
        if len(self._counted) == self._n:
            return "all were drawn"
        tokens = sum(candidate.tokens for candidate in self._counted)
        spent = self._limits.tokens is not None and tokens >= self._limits.tokens
        return "the token budget was spent" if spent else None

    def _decided(self, early: EarlyStop) -> Why | None:
        scored = self._scored()
        if not scored:
            return None
        if early.threshold is not None and (scored[-1].score or 0.0) >= early.threshold:
            return "the threshold was reached"
        remaining = self._n - len(self._counted)
        highest = self._highest(early)
        if highest is not None and remaining and self._chooser.is_decided(scored, remaining, self._weigh, highest):
            return "the leader cannot be caught"
        return None

    def _highest(self, early: EarlyStop) -> float | None:
        """The highest score or weight that there can be, where that is known."""
        votes = isinstance(self._chooser, WeightedVote)
        own = isinstance(self._chooser, WeightedVote) and self._chooser.weigh is not None
        known = 1.0 if (self._reward.bounded or votes) and not own else None
        return known if early.highest is None else early.highest
