"""The best of eight answers to a question about a picture: `make serve` first.

In a checkout: PYTHONPATH=.:client .venv/bin/python examples/best_of_n.py. The generator is the demo's seeded policy,
which is wrong six times in ten; put the address of any OpenAI-compatible server in its place.
"""

from pathlib import Path

from demo.policy_server import PolicyServer
from steelyard.best_of_n import Answer, BestOfN, EarlyStop, StepBeam, Strategy, WeightedVote

PICTURE = Path(__file__).parent / "circle.png"
QUESTION = "what is the green shape?"
STRATEGIES: dict[str, Strategy | None] = {
    "best of 8": None,
    "weighted vote": WeightedVote(),
    "early stop": EarlyStop(threshold=0.95),
    "step beam": StepBeam(keep=2, propose=2),
}


def show(name: str, answer: Answer) -> None:
    print(f"{name}: {answer.answer} ({answer.score:.2f}); {answer.trace.stopped}")
    for one in answer.trace.candidates:
        # A failure is never a number: what has no score has a status instead.
        worth = one.status if one.score is None else f"{one.score:.2f}"
        print("  *" if one.number == answer.trace.chosen else "   ", worth, " / ".join(one.steps))


if __name__ == "__main__":
    with PolicyServer() as policy, BestOfN(policy.url, "policy") as best_of_n:
        for name, strategy in STRATEGIES.items():
            show(name, best_of_n.answer(QUESTION, [PICTURE], n=8, strategy=strategy, seed=0))
