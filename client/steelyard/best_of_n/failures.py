"""What may go wrong beside the scoring itself.

SteelyardError
├── GeneratorFailed             this draw has no text: away for too long, too slow, or no chat completion
│   ├── GeneratorRefused        the request is not to its liking, for example too long
│   └── GeneratorGone           and no other draw will have any: no such address, route, model or key
└── NothingScored               no candidate has a score, so that none is best; `trace` says why
"""

from typing import TYPE_CHECKING

from steelyard.errors import SteelyardError

if TYPE_CHECKING:
    from steelyard.best_of_n.trace import Trace


class GeneratorFailed(SteelyardError):
    """This draw has no text; another one may."""


class GeneratorRefused(GeneratorFailed):
    """The request is not to the endpoint's liking; one about another question may be."""


class GeneratorGone(GeneratorFailed):
    """No draw will ever have a text: the endpoint does not know the route, the model or the key."""


class NothingScored(SteelyardError):
    """No candidate has a score, so that none is best."""

    def __init__(self, message: str, trace: "Trace") -> None:
        super().__init__(message)
        self.trace = trace
