"""Why there is no reward: each of these stands where a number must not.

SteelyardError
└── RewardFailure        code
    ├── UnusableTruth    unusable_truth   the solution itself cannot be compared with
    ├── NotFinite        not_finite       NaN or an infinity came out, as upstream's confidence can
    ├── TooComplex       too_complex      mathematics beyond the bounds in size
    ├── OutOfTime        out_of_time      whoever bounds the time raises it: nothing here looks at a clock
    ├── ScoreMissing     score_missing    a served model's score was not given, or is no number
    └── ExtraMissing     extra_missing    math-verify is not installed
"""

from steelyard.errors import SteelyardError


class RewardFailure(SteelyardError):
    """No reward: neither 0 nor any other number. `code` is stable, the message is for people."""

    code = "reward_failure"


class UnusableTruth(RewardFailure):
    """The solution itself is unusable, whatever the answer is."""

    code = "unusable_truth"


class NotFinite(RewardFailure):
    """A part or the total is NaN or infinite."""

    code = "not_finite"


class TooComplex(RewardFailure):
    """Mathematics that is larger than the bounds allow to compare."""

    code = "too_complex"


class OutOfTime(RewardFailure):
    """A comparison that was ended before it was done."""

    code = "out_of_time"


class ScoreMissing(RewardFailure):
    """A served model's score that the specification needs."""

    code = "score_missing"


class ExtraMissing(RewardFailure):
    """A package that an optional reward needs."""

    code = "extra_missing"
