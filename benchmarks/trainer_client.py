"""What a trainer's side of scoring costs: bytes on the wire, and the client's own time for a group.

`python -m benchmarks.trainer_client [--groups 1024] [--rounds 5]`: batches of samples, 16 to a question, two questions
to a picture, against a real gateway over a stub engine. Exit status 1 over a limit.

Bytes are those that leave the client through a relay that counts them, HTTP and its headers included, TCP's not; the
least possible is every text in UTF-8 and each distinct picture's file once. The client's time for a group is the
processor time of its process, all threads, user and system: whatever it does from the samples to their scores, the
wait for the server left out. It is measured over batches of 32 groups, without the relay; the median batch counts. The
floor is what the same bodies cost when they are sent as they are, one after the other, by Python's own http.client.
"""

import argparse
import asyncio
import contextlib
import http.client
import io
import random
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from benchmarks.random_checkpoint import TOKENIZER
from benchmarks.stub_process import stub_server
from steelyard.requests import build, post
from steelyard.schema import ScoreStepsRequest
from steelyard.trainers import Sample, SampleScore, Scorer

CANDIDATES, STEPS, WORDS = 16, 6, 16
BATCH = 32
QUESTIONS_OF_A_PICTURE = 2
MOST_BYTES, MOST_MS = 1.05, 1.0
_WORDS = ("the", "angle", "triangle", "area", "is", "half", "of", "base", "so", "we", "find", "that", "x", "equals")


@dataclass(frozen=True, slots=True)
class Sent:
    """Bytes that left the client, and the fewest that could have."""

    bytes: int
    least: int

    @property
    def ratio(self) -> float:
        return self.bytes / self.least


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    samples = make_samples(options.groups)
    with stub_server(str(TOKENIZER)) as port:
        sent = count_bytes(port, samples)
        print(f"{options.groups} groups × {CANDIDATES}: {sent.bytes:,} bytes sent, {sent.ratio:.4f} × {sent.least:,}")
        times = measure(port, samples, options.rounds)
    for name, values in times.items():
        cuts = statistics.quantiles(values, n=10)
        print(f"{name:<24} median {statistics.median(values):6.3f}   p90 {cuts[8]:6.3f}   ms of processor time a group")
    slowest = max(statistics.median(values) for name, values in times.items() if name != "floor")
    return int(sent.ratio > MOST_BYTES or slowest > MOST_MS)


def make_samples(groups: int) -> list[Sample]:
    """In the order of a trainer's batch: the responses to a question one after the other."""
    generator = random.Random(0)
    pictures = [_picture(generator) for _ in range(-(-groups // QUESTIONS_OF_A_PICTURE))]
    questions = [f"Question {group}: {_sentence(generator, 20)}?" for group in range(groups)]
    return [
        Sample(question, [pictures[group // QUESTIONS_OF_A_PICTURE]], response)
        for group, question in enumerate(questions)
        for response in _responses(generator)
    ]


def count_bytes(port: int, samples: Sequence[Sample]) -> Sent:
    texts = {str(sample.question) for sample in samples} | {str(sample.response) for sample in samples}
    pictures = {picture for sample in samples for picture in sample.images if isinstance(picture, bytes)}
    least = sum(len(text.encode()) for text in texts) + sum(map(len, pictures))
    with relay(port) as (own_port, count), Scorer(f"http://127.0.0.1:{own_port}") as scorer:
        check(scorer.score(samples))
        return Sent(count(), least)


def measure(port: int, samples: Sequence[Sample], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of processor time a group, by way, batch by batch; the ways take turns."""
    times: dict[str, list[float]] = {"threads": [], "tasks": [], "floor": []}
    size = BATCH * CANDIDATES
    for turn in range(rounds):
        with Scorer(f"http://127.0.0.1:{port}") as scorer, asyncio.Runner() as runner:
            for start in range(0, len(samples), size):
                # Questions of their own, so that no answer is one from a cache.
                for way in ("threads", "tasks", "floor"):
                    batch = [replace(each, question=f"{way} {turn} {each.question}") for each in samples[start:][:size]]
                    times[way].append(_run(way, scorer, runner, port, batch) / (len(batch) // CANDIDATES))
            runner.run(scorer.aclose())
    return times


def _run(way: str, scorer: Scorer, runner: asyncio.Runner, port: int, batch: list[Sample]) -> float:
    """Milliseconds of processor time for the batch."""
    if way == "floor":
        return _send_bodies(port, batch)
    score: Callable[[], list[SampleScore]]
    score = (lambda: scorer.score(batch)) if way == "threads" else (lambda: runner.run(scorer.ascore(batch)))
    started = time.process_time()
    results = score()
    spent_ms = (time.process_time() - started) * 1000
    check(results)
    return spent_ms


def _send_bodies(port: int, batch: Sequence[Sample]) -> float:
    """The same questions and responses, made ready beforehand; their answers are read and not looked at."""
    bodies = [_body(batch[start : start + CANDIDATES]) for start in range(0, len(batch), CANDIDATES)]
    connection = http.client.HTTPConnection("127.0.0.1", port)
    started = time.process_time()
    for body in bodies:
        connection.request("POST", "/score_steps", body, {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        assert response.status == 200
    spent_ms = (time.process_time() - started) * 1000
    connection.close()
    return spent_ms


def _body(group: Sequence[Sample]) -> bytes:
    request = build(ScoreStepsRequest, question=group[0].question, candidates=[each.response for each in group])
    return post("/score_steps", request, None).content


def check(results: Sequence[SampleScore]) -> None:
    """A stub's step has the log-odds 0, every time."""
    assert {result.status for result in results} == {"ok"}, {result.reason for result in results}
    assert all(result.step_scores == (0.5,) * STEPS for result in results)


@contextlib.contextmanager
def relay(port: int) -> Iterator[tuple[int, Callable[[], int]]]:
    """A port that leads to the other one, and how many bytes have come in through it."""
    counts: list[int] = []

    def pump(source: socket.socket, sink: socket.socket, counted: list[int]) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(1 << 20):
                counted.append(len(content))
                sink.sendall(content)
            sink.shutdown(socket.SHUT_WR)

    def lead(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = listening.accept()
                there = socket.create_connection(("127.0.0.1", port))
                threading.Thread(target=pump, args=(here, there, counts), daemon=True).start()
                threading.Thread(target=pump, args=(there, here, []), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=lead, args=(listening,), daemon=True).start()
        yield listening.getsockname()[1], lambda: sum(counts)


def _responses(generator: random.Random) -> list[str]:
    return ["\n\n".join(_sentence(generator, WORDS) for _ in range(STEPS)) for _ in range(CANDIDATES)]


def _sentence(generator: random.Random, words: int) -> str:
    return " ".join([*generator.choices(_WORDS, k=words - 1), str(generator.randrange(10**6))])


def _picture(generator: random.Random) -> bytes:
    """A photograph's size: 640 × 480, some 60 kB."""
    coarse = Image.frombytes("RGB", (80, 60), generator.randbytes(80 * 60 * 3))
    content = io.BytesIO()
    coarse.resize((640, 480), Image.Resampling.BICUBIC).save(content, "JPEG", quality=75)
    return content.getvalue()


if __name__ == "__main__":
    sys.exit(main())
