import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.checkpoint import CheckpointError, tensor_names
from models.registry import identify
from tests.golden import IXC_REWARD, TINY_IXC_REWARD, TINY_VISUAL_PRM

XCOMPOSER = {"architectures": ["InternLMXComposer2ForCausalLM"]}


def write(directory: Path, *names: str) -> Path:
    (directory / "config.json").write_text(json.dumps(XCOMPOSER), encoding="utf-8")
    save_file({name: torch.zeros(1) for name in names}, directory / "model.safetensors")
    return directory


def test_a_family_is_told_by_the_checkpoint() -> None:
    assert (identify(TINY_VISUAL_PRM).name, identify(TINY_VISUAL_PRM).kind) == ("visual_prm", "steps")
    for name in ("tiny-ixc-reward", "tiny-ixc-reward-560"):
        family = identify(IXC_REWARD / name)
        assert (family.name, family.kind) == ("ixc_reward", "outcome")


@pytest.mark.parametrize("names", [("output.weight",), ("score.weight", "output.weight"), ("other",)])
def test_a_chat_model_of_the_same_architecture_is_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not a reward model: it needs score\.weight and no output\.weight"):
        identify(write(tmp_path, *names))


def test_a_reward_model_may_be_one_file(tmp_path: Path) -> None:
    assert identify(write(tmp_path, "score.weight")).name == "ixc_reward"


def test_an_index_tells_the_names_without_its_shards(tmp_path: Path) -> None:
    write(tmp_path, "output.weight")
    index = {"weight_map": {"score.weight": "model-00001-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert tensor_names(tmp_path) == {"score.weight"}
    assert "score.weight" in tensor_names(TINY_IXC_REWARD)


@pytest.mark.parametrize(
    "content",
    [b"", b"\1", b"\xff" * 8, (9).to_bytes(8, "little") + b"[1,2,3,", (4).to_bytes(8, "little") + b"null"],
)
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    write(tmp_path, "score.weight")
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged, truncated or not safetensors") as raised:
        identify(tmp_path)
    assert "\n" not in str(raised.value)
