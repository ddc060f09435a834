"""What stops a run on purpose."""


class EvaluationError(Exception):
    """The run cannot go on; the message is one line for people."""


class Interrupted(EvaluationError):
    """The run stopped half-way; what was scored is kept, and the same command goes on from there."""


class Refused(EvaluationError):
    """An endpoint refused this one request; the others may fare better."""
