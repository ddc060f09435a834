"""What is refused before any weight is read: each in one line that names what is wrong."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from demo.random_classifier import write_checkpoint
from models.checkpoint import CheckpointError, tokenizer_digest
from models.sequence_classifier.spec import PROBES, read_spec


@pytest.fixture(scope="module")
def fine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("fine"))


@pytest.fixture
def checkpoint(fine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(fine, tmp_path / "checkpoint")


def rewrite(file: Path, **changes: object) -> None:
    values: Mapping[str, object] = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**values, **changes}), encoding="utf-8")


def several_labels(directory: Path) -> None:
    labels = {"0": "bad", "1": "fine", "2": "good"}
    rewrite(directory / "config.json", id2label=labels, label2id={name: int(id_) for id_, name in labels.items()})


def raising_template(directory: Path) -> None:
    (directory / "chat_template.jinja").write_text("{{ raise_exception('never\never') }}", encoding="utf-8")


def own_tokenizer(directory: Path) -> None:
    rewrite(directory / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "evil.Evil"]})


def another_class(directory: Path) -> None:
    rewrite(directory / "config.json", architectures=["EvilForSequenceClassification"])


def unknown_type(directory: Path) -> None:
    rewrite(directory / "config.json", model_type="evil")


def adapter(directory: Path) -> None:
    (directory / "adapter_config.json").write_text("{}", encoding="utf-8")


def test_a_checkpoint_is_described_in_transformers_words(fine: Path) -> None:
    spec = read_spec(fine)
    assert (spec.architecture, spec.positions) == ("LlamaForSequenceClassification", 512)
    assert len(spec.probes) == len(PROBES)
    assert spec.special_tokens["bos_token"] == "<s>"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (several_labels, "num_labels must be 1: with several labels none of them is the score, found 3"),
        (raising_template, "its chat template refuses a question and an answer: never"),
        (own_tokenizer, "tokenizer_config.json: auto_map names code of the checkpoint's own, which is never run"),
        (another_class, 'architectures must be ["LlamaForSequenceClassification"], which transformers has for llama'),
        (unknown_type, "evil"),
        (adapter, "merge it into the weights first"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(
    spoil: Callable[[Path], None], says: str, checkpoint: Path
) -> None:
    spoil(checkpoint)
    with pytest.raises(CheckpointError) as raised:
        read_spec(checkpoint)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", "tokenizer_config.json"])
def test_the_tokenizers_digest_is_over_all_that_makes_its_tokens(name: str, fine: Path, checkpoint: Path) -> None:
    assert tokenizer_digest(checkpoint) == tokenizer_digest(fine)
    (checkpoint / name).write_bytes((checkpoint / name).read_bytes() + b"\n")
    assert tokenizer_digest(checkpoint) != tokenizer_digest(fine)
