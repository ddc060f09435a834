"""Scores are those of transformers' own model, given one whole sequence, whatever is shared and whoever is beside."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from demo.random_classifier import write_checkpoint, write_model
from models.checkpoint import CheckpointError
from models.encoded import ids_of
from models.pausing import run_through
from models.registry import identify
from models.sequence_classifier import network
from models.sequence_classifier.network import SequenceClassifier
from models.sequence_classifier.plan import Run, apart, share
from models.tokenizer import Ids

VOCABULARY, PAD = 300, 1
# What is written for each: whether a prefix is shared, and settings of its configuration.
ARCHITECTURES: dict[str, tuple[bool, dict[str, object]]] = {
    "LlamaForSequenceClassification": (True, {}),
    "Qwen2ForSequenceClassification": (True, {"pad_token_id": None}),
    "Qwen3ForSequenceClassification": (
        True,
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}},
    ),
    # A window forgets, so what is before it is not kept.
    "MistralForSequenceClassification": (False, {"sliding_window": 8}),
    # Its own forward, not transformers' generic one.
    "GPT2ForSequenceClassification": (False, {}),
    # It looks ahead.
    "BertForSequenceClassification": (False, {}),
}


def load(directory: Path) -> SequenceClassifier:
    return network.load(directory, torch.float32, torch.device("cpu"))


def scores(classifier: SequenceClassifier, sequences: Sequence[Ids], runs: Sequence[Run]) -> list[float]:
    with torch.inference_mode():
        return [score.item() for score in run_through(network.score(classifier, sequences, runs))]


def reference(directory: Path, sequences: Sequence[Ids]) -> list[float]:
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    with torch.no_grad():
        return [model(input_ids=torch.tensor(ids, dtype=torch.long)[None]).logits.item() for ids in sequences]


def family(seed: int) -> list[Ids]:
    """Sequences that share a long beginning, some of them more, one of them nothing; two are equal."""
    draw = np.random.default_rng(seed).integers(2, VOCABULARY, 400).astype(np.int32)
    prefix, middle = draw[:60], draw[60:100]
    tails = [draw[100:101], draw[110:150], draw[200:203]]
    grown = [np.concatenate([prefix, middle, tail]) for tail in tails]
    return [*grown, np.concatenate([prefix, draw[300:330]]), prefix, draw[380:], grown[1]]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_score_is_transformers_own_shared_or_not(architecture: str, tmp_path: Path) -> None:
    shares, settings = ARCHITECTURES[architecture]
    write_model(tmp_path, architecture, VOCABULARY, **settings)
    assert identify(tmp_path).name == "sequence_classifier"
    classifier, sequences = load(tmp_path), family(0)
    expected = reference(tmp_path, sequences)
    assert len({round(score, 4) for score in expected}) == len(sequences) - 1
    assert classifier.shares is shares
    plans = [apart(sequences), share(sequences), share(sequences, 1)] if shares else [apart(sequences)]
    for plan in plans:
        assert scores(classifier, sequences, plan) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_a_score_does_not_depend_on_who_is_beside_it(llama: Path) -> None:
    classifier, sequences = load(llama), family(1)
    together = scores(classifier, sequences, share(sequences))
    for order in ([3, 0, 6], [5, 1], [4], [6, 2, 1, 0]):
        chosen = [sequences[index] for index in order]
        found = scores(classifier, chosen, share(chosen))
        assert found == pytest.approx([together[index] for index in order], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("tail", [[PAD], [PAD, PAD, PAD], [5, PAD], [PAD, 5], []])
def test_where_padding_is_the_end_of_a_text_the_token_before_it_is_read(tail: list[int], llama: Path) -> None:
    sequences = [np.concatenate([ids, ids_of(*tail)]) for ids in family(2)[:3]] + [ids_of(PAD), ids_of(PAD, PAD)]
    classifier = load(llama)
    read = [network.read_part(classifier, ids) for ids in sequences]
    expected = reference(llama, sequences)
    assert scores(classifier, read, share(read, 1)) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert scores(classifier, sequences, apart(sequences)) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_alone_and_whole_the_bits_are_transformers_own(llama: Path) -> None:
    sequences = family(3)
    assert scores(load(llama), sequences, apart(sequences)) == reference(llama, sequences)


def test_rotary_positions_that_change_with_the_length_are_not_shared(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    write_model(tmp_path, "LlamaForSequenceClassification", VOCABULARY, rope_parameters=rope)
    assert not load(tmp_path).shares


def change(directory: Path, change_of: dict[str, torch.Tensor | None]) -> None:
    file = directory / "model.safetensors"
    tensors = {name: tensor for name, tensor in (load_file(file) | change_of).items() if tensor is not None}
    save_file(tensors, file, {"format": "pt"})


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"score.weight": None}, "1 tensors missing: 'score.weight'"),
        ({"score.bias": torch.zeros(1)}, "1 tensors not part of this model: 'score.bias'"),
        ({"score.weight": torch.full((1, 32), torch.inf)}, "'score.weight': expected numbers finite in float32"),
        ({"score.weight": torch.zeros(1, 16)}, "1 tensors of another shape: 'score.weight'"),
    ],
)
def test_weights_that_are_not_the_models_are_refused(
    changed: dict[str, torch.Tensor | None], says: str, tmp_path: Path
) -> None:
    write_model(tmp_path, "LlamaForSequenceClassification", VOCABULARY)
    change(tmp_path, changed)
    with pytest.raises(CheckpointError) as raised:
        load(tmp_path)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_pickles_and_code_of_the_checkpoints_own_are_never_opened(tmp_path: Path) -> None:
    write_model(tmp_path, "LlamaForSequenceClassification", VOCABULARY)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: a PyTorch pickle can run code"):
        load(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoModelForSequenceClassification": "evil.Evil"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    with pytest.raises(CheckpointError, match="code of the checkpoint's own, which is never run"):
        load(tmp_path)
