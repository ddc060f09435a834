"""How a group of answers is best scored by a sequence classifier: shared, one by one, or padded into one batch.

OMP_NUM_THREADS=1 PYTHONPATH=.:client .venv/bin/python -m benchmarks.classifier_sharing
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.interleaved import Contestant, interleave
from demo.random_classifier import write_model
from models.pausing import run_through
from models.sequence_classifier import network
from models.sequence_classifier.network import SequenceClassifier
from models.sequence_classifier.plan import Run, apart, share
from models.tokenizer import Ids

_VOCABULARY, _PAD = 4096, 1
_SIZES = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8}


def group(candidates: int, prefix: int, longest: int) -> list[Ids]:
    """Prompts of one question: a shared prefix, then answers of a quarter of `longest` up to it."""
    draw = np.random.default_rng(0)
    head = draw.integers(2, _VOCABULARY, prefix)
    lengths = np.linspace(longest // 4, longest, candidates).astype(int)
    return [np.concatenate([head, draw.integers(2, _VOCABULARY, n)]).astype(np.int32) for n in lengths]


def run(classifier: SequenceClassifier, sequences: list[Ids], runs: list[Run]) -> list[float]:
    return [score.item() for score in run_through(network.score(classifier, sequences, runs))]


def padded(classifier: SequenceClassifier, sequences: list[Ids]) -> list[float]:
    """All in one batch of transformers, as a trainer's own loop does it."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), _PAD)
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = torch.from_numpy(sequence)
    found: list[float] = classifier.model(input_ids=ids, attention_mask=(ids != _PAD).long()).logits[:, 0].tolist()
    return found


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--prefix", type=int, default=400)
    parser.add_argument("--answer", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes = {**_SIZES, "num_key_value_heads": 4, "head_dim": 64, "max_position_embeddings": 4096}
        write_model(Path(folder), "LlamaForSequenceClassification", _VOCABULARY, **sizes, initializer_range=0.02)
        classifier = network.load(Path(folder), torch.float32, torch.device("cpu"))
    sequences = group(options.candidates, options.prefix, options.answer)
    ways: dict[str, Callable[[], list[float]]] = {
        "shared": lambda: run(classifier, sequences, share(sequences)),
        "one by one": lambda: run(classifier, sequences, apart(sequences)),
        "padded batch": lambda: padded(classifier, sequences),
    }
    found = {name: np.array(way(), np.float64) for name, way in ways.items()}
    for name, scores in found.items():
        furthest = np.max(np.abs(scores - found["one by one"]) / (1 + np.abs(found["one by one"])))
        print(f"{name}: at most {furthest:.1e} · (1 + |score|) from one by one")
        assert furthest <= 1e-5

    def timed(name: str) -> Contestant:
        return lambda: (ways[name](), 1.0)[1]

    times = interleave({name: timed(name) for name in ways}, options.rounds)
    for name in ways:
        median, least, most = times.ratio(name, "shared")
        print(f"{name:14} median {times.median(name):.3f} s, {median:.2f} × shared ({least:.2f} to {most:.2f})")


if __name__ == "__main__":
    main()
