"""Score a small data set, keep each question's best answer, and make preference pairs: `make serve` first."""

import json
import tempfile
from pathlib import Path

from steelyard.data.filtering import run
from steelyard.data.selection import Selection
from steelyard.data.task import Filtering

PICTURE = Path(__file__).parent / "circle.png"
QUESTION = "what is the green shape?"
RESPONSES = [
    "I see a circle.\n\nThe color is green.\n\nAnswer: circle",
    "The color is green.\n\nThe picture shows a triangle.\n\nAnswer: triangle",
    "I see a square.\n\nAnswer: square",
]


def write(path: Path) -> None:
    """A record a response; neighbours that share a question and its pictures travel together."""
    rows = [{"question": QUESTION, "images": [str(PICTURE)], "response": response} for response in RESPONSES]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, best, pairs = folder / "data.jsonl", folder / "best.jsonl", folder / "pairs.jsonl"
        write(data)
        summary = run(Filtering(str(data), str(best), selection=Selection(top=1)))
        print(f"{summary.scored} of {summary.candidates} scored")
        kept = json.loads(best.read_text(encoding="utf-8"))
        print("best:", kept["score"], kept["response"].splitlines()[-1])
        run(Filtering(str(data), str(pairs), form="pairs"))
        pair = json.loads(pairs.read_text(encoding="utf-8"))
        print("pair:", pair["chosen"].splitlines()[-1], "over", pair["rejected"].splitlines()[-1])


if __name__ == "__main__":
    main()
