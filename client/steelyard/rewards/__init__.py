"""Verifiable rewards of Visual-RFT: pure functions, and specifications that put them together."""

from steelyard.rewards.evaluation import Compiled, Evaluation
from steelyard.rewards.failures import (
    ExtraMissing,
    NotFinite,
    OutOfTime,
    RewardFailure,
    ScoreMissing,
    TooComplex,
    UnusableTruth,
)
from steelyard.rewards.shipped import SHIPPED, shipped
from steelyard.rewards.specification import Specification
from steelyard.rewards.tags import Mode

__all__ = [
    "SHIPPED",
    "Compiled",
    "Evaluation",
    "ExtraMissing",
    "Mode",
    "NotFinite",
    "OutOfTime",
    "RewardFailure",
    "ScoreMissing",
    "Specification",
    "TooComplex",
    "UnusableTruth",
    "shipped",
]
