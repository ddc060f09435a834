"""What one group costs beside its forward: HTTP, schema, tokenising, queue, engine loop, answer.

`python -m benchmarks.service_overhead [--groups 500]`: a real gateway and a real engine process whose forward is a
stub, one caller on a kept-alive connection, a text group of 8 candidates × 8 steps × 40 tokens. Every step of every
group is another text: three words in four from a vocabulary of 2,000, the fourth a fresh number.
"""

import argparse
import http.client
import itertools
import json
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.random_checkpoint import TOKENIZER
from benchmarks.stub_process import stub_server
from models.tokenizer import Segment, Tokenizer, load_tokenizer

CANDIDATES, STEPS, TOKENS = 8, 8, 40
_SYLLABLES = ("an", "the", "re", "tri", "gle", "ar", "ea", "is", "half", "of", "ba", "se", "so", "we", "find", "x")
_WARM_UP = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=500)
    parser.add_argument("--checkpoint", default=str(TOKENIZER), help="its tokeniser is the one that is timed")
    options = parser.parse_args()
    bodies = list(itertools.islice(_bodies(options.checkpoint), options.groups + _WARM_UP))
    with stub_server(options.checkpoint) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        rows = [_post(connection, body) for body in bodies]
    _report(rows[_WARM_UP:])


def _report(rows: list[dict[str, float]]) -> None:
    print(f"{len(rows)} groups of {CANDIDATES} candidates × {STEPS} steps × {TOKENS} tokens, milliseconds")
    print(f"{'':<28}{'median':>9}{'p90':>9}{'p99':>9}")
    for name in rows[0]:
        values = sorted(row[name] for row in rows)
        cuts = statistics.quantiles(values, n=100)
        print(f"{name:<28}{cuts[49]:>9.3f}{cuts[89]:>9.3f}{cuts[98]:>9.3f}")


def _bodies(checkpoint: str) -> Iterator[bytes]:
    """Groups of random sentences, each step as many words as give about 40 tokens."""
    tokenizer = load_tokenizer(Path(checkpoint))
    generator = random.Random(0)
    vocabulary = ["".join(generator.choices(_SYLLABLES, k=generator.randint(1, 4))) for _ in range(2_000)]
    while True:
        candidates = [[_step(generator, tokenizer, vocabulary) for _ in range(STEPS)] for _ in range(CANDIDATES)]
        question = " ".join(generator.choices(vocabulary, k=12))
        yield json.dumps({"question": question, "candidates": ["\n\n".join(steps) for steps in candidates]}).encode()


def _step(generator: random.Random, tokenizer: Tokenizer, vocabulary: list[str]) -> str:
    words: list[str] = []
    while True:
        fresh = generator.random() < 0.25
        words.append(str(generator.randint(0, 99_999)) if fresh else generator.choice(vocabulary))
        if len(tokenizer.encode([Segment(" ".join(words))]).ids) >= TOKENS:
            return " ".join(words)


def _post(connection: http.client.HTTPConnection, body: bytes) -> dict[str, float]:
    """What the caller waited for, and how the server says that it was spent."""
    started = time.perf_counter()
    connection.request("POST", "/score_steps", body, {"content-type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    elapsed_ms = (time.perf_counter() - started) * 1000
    answer = json.loads(content)
    assert response.status == 200, content
    assert [len(result["step_scores"]) for result in answer["results"]] == [STEPS] * CANDIDATES
    timings = answer["timings_ms"]
    row = {"seen by the caller": elapsed_ms, "encode": timings["encode"], "queue": timings["queue"]}
    return row | {"stub forward": timings["forward"], "group, in the server": timings["total"]}


if __name__ == "__main__":
    main()
