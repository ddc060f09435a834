"""A reward-hacking test: what a specification pays for that is not better, and where strict and upstream disagree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

from steelyard.rewards.evaluation import Compiled
from steelyard.rewards.failures import NotFinite, RewardFailure
from steelyard.rewards.perturbations import perturbed, wrong_response
from steelyard.rewards.specification import Specification
from steelyard.rewards.tag_format import format_reward
from steelyard.rewards.tags import Mode

# A trick that gains less is a guess that happened to come near.
LEAST_GAIN = 0.01
_MOST_LISTED = 1_000
_MOST_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """A response, its solution, and the scores of served models beside it."""

    place: str
    response: str
    truth: str
    served: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A record's totals in the two modes; None with the failure's code where there is none."""

    place: str
    strict: float | None
    upstream: float | None
    strict_failure: str | None = None
    upstream_failure: str | None = None


@dataclass(frozen=True, slots=True)
class Profit:
    """One response that a trick made to earn more. `after` is None where it made the total NaN or infinite."""

    place: str
    start: str
    before: float
    after: float | None
    response: str

    @property
    def gain(self) -> float:
        return float("inf") if self.after is None else self.after - self.before


@dataclass(slots=True)
class Trick:
    """For how many responses a trick paid, and the most that it gained."""

    name: str
    is_guess: bool
    times: int = 0
    best: Profit | None = None

    def add(self, profit: Profit) -> None:
        self.times += 1
        if self.best is None or profit.gain > self.best.gain:
            self.best = profit


@dataclass(slots=True)
class Findings:
    """What an audit has found so far; lists hold the first thousand."""

    records: int = 0
    tried: int = 0
    disagreements: int = 0
    unrewarded: int = 0
    listed: list[Disagreement] = field(default_factory=list)
    tricks: dict[str, Trick] = field(default_factory=dict)

    @property
    def profitable(self) -> list[Trick]:
        """Tricks that pay, most often first; without guesses."""
        return sorted((trick for trick in self.tricks.values() if not trick.is_guess), key=lambda trick: -trick.times)

    @property
    def guesses(self) -> list[Trick]:
        return [trick for trick in self.tricks.values() if trick.is_guess]


class Audit:
    """Takes a specification's records one by one."""

    def __init__(
        self,
        specification: Specification,
        classes: Sequence[str] = (),
        findings: Findings | None = None,
        least_gain: float = LEAST_GAIN,
    ) -> None:
        """`classes` are the solutions that there are, for the tricks that name them all."""
        self.findings = findings or Findings()
        self._classes = classes
        self._least_gain = least_gain
        self._kinds = frozenset(term.kind for term in specification.terms)
        self._evaluate = specification.compile()
        self._modes = {mode: _comparable(specification, mode).compile() for mode in ("strict", "upstream")}
        self._truths: set[int] = set()

    def take(self, record: AuditRecord) -> None:
        """Compare the modes, then try each trick on the response and, once a solution, on a wrong one."""
        self.findings.records += 1
        self._compare(record)
        # Otherwise a trick that also mends the format would seem to pay.
        if "format" not in self._kinds or format_reward(record.response) == 1.0:
            self._try(record, record.response, "the response")
        key = hash((record.truth, *sorted(record.served.items())))
        if key not in self._truths:
            self._truths.add(key)
            self._try(record, wrong_response(record.truth, self._kinds, self._classes), "a wrong response")

    def _compare(self, record: AuditRecord) -> None:
        totals: dict[str, float | None] = {}
        failures: dict[str, str | None] = {}
        for mode, evaluate in self._modes.items():
            totals[mode], failures[mode] = _total(evaluate, record, record.response)
        if totals["strict"] is None and totals["upstream"] is None:
            self.findings.unrewarded += 1
        if totals["strict"] != totals["upstream"]:
            self.findings.disagreements += 1
            if len(self.findings.listed) < _MOST_LISTED:
                self.findings.listed.append(
                    Disagreement(
                        record.place, totals["strict"], totals["upstream"], failures["strict"], failures["upstream"]
                    )
                )

    def _try(self, record: AuditRecord, response: str, start: str) -> None:
        before, _ = _total(self._evaluate, record, response)
        if before is None:
            return
        best: dict[str, Profit] = {}
        for bent in perturbed(response, record.truth, self._kinds, self._classes):
            self.findings.tried += 1
            after, failure = _total(self._evaluate, record, bent.response)
            if failure == NotFinite.code or (after is not None and after - before > self._least_gain):
                profit = Profit(record.place, start, before, after, bent.response[:_MOST_CHARACTERS])
                if bent.trick not in best or profit.gain > best[bent.trick].gain:
                    best[bent.trick] = profit
                self.findings.tricks.setdefault(bent.trick, Trick(bent.trick, bent.is_guess))
        for name, profit in best.items():
            self.findings.tricks[name].add(profit)


def _comparable(specification: Specification, mode: Mode) -> Specification:
    """The same terms in the mode; without math-verify upstream's maths step is left out of the comparison."""
    found = specification.in_mode("upstream").in_mode(mode)
    if mode == "upstream" and find_spec("math_verify") is None:
        return found.model_copy(update={"maths_first": False})
    return found


def _total(evaluate: Compiled, record: AuditRecord, response: str) -> tuple[float | None, str | None]:
    """The total, or the code of the failure. Raises ExtraMissing."""
    try:
        return evaluate(response, record.truth, record.served).total, None
    except RewardFailure as failure:
        if failure.code == "extra_missing":
            raise
        return None, failure.code
