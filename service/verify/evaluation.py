"""What workers evaluate with: `steelyard.rewards`."""

from collections.abc import Mapping

from service.verify.frames import Served
from service.verify.worker import Evaluate, NoReward
from steelyard.rewards import OutOfTime, RewardFailure, Specification, TooComplex, UnusableTruth
from steelyard.rewards.maths import maths_reward

_STATUS: Mapping[type[RewardFailure], str] = {
    UnusableTruth: "refused",
    TooComplex: "too_long",
    OutOfTime: "timed_out",
}


def preload() -> None:
    """Read some mathematics, which imports what that takes."""
    maths_reward("<answer>$1$</answer>", "$1$")


def evaluator(specification: bytes) -> Evaluate:
    """By a specification that is known to be valid."""
    reward = Specification.model_validate_json(specification).compile()

    def evaluate(response: str, truth: str | None, served: Served | None) -> tuple[float, Mapping[str, float]]:
        try:
            evaluation = reward(response, truth, served)
        except RewardFailure as failure:
            raise NoReward(_STATUS.get(type(failure), "failed"), failure.message) from None
        return evaluation.total, evaluation.parts

    return evaluate
