"""Score two answers to a question about a picture, from threads and from tasks: `make serve` first."""

import asyncio
from pathlib import Path

from steelyard import AsyncClient, Client
from steelyard.schema import ScoreStepsResponse

PICTURE = Path(__file__).parent / "circle.png"
QUESTION = "what is the green shape?"
CANDIDATES = [
    "I see a circle.\n\nThe color is green.\n\nAnswer: circle",
    ["The color is green.", "The picture shows a triangle.", "Answer: triangle"],
]


def show(answer: ScoreStepsResponse) -> None:
    for result in answer.results:
        mark = "best" if result.index == answer.best else ""
        # A failure is never a number: what was not scored has a status instead.
        print(result.index, result.score if result.score is not None else result.status, result.step_scores, mark)


async def many_at_once() -> list[ScoreStepsResponse]:
    async with AsyncClient() as client:
        return await asyncio.gather(*(client.score_steps(QUESTION, [PICTURE], CANDIDATES) for _ in range(8)))


if __name__ == "__main__":
    with Client() as client:
        show(client.score_steps(QUESTION, [PICTURE], CANDIDATES))
    print(len(asyncio.run(many_at_once())), "groups more")
