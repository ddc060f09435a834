"""Whether a response is a thought and an answer, each in its tags. 0.0 or 1.0; reads the response alone."""

import re

from steelyard.rewards.tags import Mode

_START, _END = "<think>", "</answer>"
_JOIN = re.compile(r"</think>\s*<answer>")
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def format_reward(response: str, mode: Mode = "strict") -> float:
    """Upstream takes any text between the outer tags; strict each tag once, and neither part blank."""
    if not (response.startswith(_START) and response.endswith(_END)):
        return 0.0
    # The earliest join leaves the most room for the closing tag: where it does not fit, no later one does.
    join = _JOIN.search(response, len(_START))
    if join is None or join.end() > len(response) - len(_END):
        return 0.0
    if mode == "upstream":
        return 1.0
    if any(response.find(tag) != response.rfind(tag) for tag in _TAGS):
        return 0.0
    thought, answer = response[len(_START) : join.start()], response[join.end() : -len(_END)]
    return 1.0 if thought and not thought.isspace() and answer and not answer.isspace() else 0.0
