"""The network on random weights: packed as plain, differentiable, and each of its parts where it belongs."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from models import vision
from models.candidate import Candidate, PlacedPicture
from models.checkpoint import CheckpointError
from models.ixc_reward import network
from models.ixc_reward.layout import count_tokens
from models.ixc_reward.network import IXCReward, build, picture_features, score, score_plain, tensor_shapes
from models.ixc_reward.spec import read_spec
from tests.golden import IXC_REWARD, TINY_IXC_REWARD
from tests.models.drawing import draw

SPEC = read_spec(TINY_IXC_REWARD)
LIMIT = 24
GRIDS = [(1, 1), (2, 1), (1, 2)]
LORA = "model.layers.1.feed_forward.w2.Plora_B.weight"


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Many small operations beside another test process: threads would spend their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {name: draw(shape, generator) for name, shape in tensor_shapes(SPEC).items()}


def tiny(tensors: dict[str, torch.Tensor]) -> IXCReward:
    """With so low a limit of positions that prompts of one batch lie on both sides of it."""
    rope = replace(SPEC.decoder.rope, max_positions=LIMIT)
    return build(replace(SPEC, decoder=replace(SPEC.decoder, rope=rope)), tensors)


@cache
def model() -> IXCReward:
    return tiny(weights())


def pixels(columns: int, rows: int) -> npt.NDArray[np.uint8]:
    size = (rows * SPEC.tile_size, columns * SPEC.tile_size, 3)
    return np.random.default_rng(columns * 10 + rows).integers(0, 256, size, np.uint8)


@cache
def features(columns: int, rows: int) -> torch.Tensor:
    with torch.inference_mode():
        return picture_features(model(), pixels(columns, rows))


def ids(seed: int, length: int) -> npt.NDArray[np.int32]:
    return np.random.default_rng(seed).integers(0, SPEC.decoder.vocab_size, length).astype(np.int32)


@st.composite
def candidates(draw: st.DrawFn) -> Candidate:
    placed, length = [], draw(st.integers(0, 9))
    for grid in draw(st.lists(st.sampled_from(GRIDS), max_size=2)):
        placed.append(PlacedPicture(length, features(*grid)))
        length += len(features(*grid)) + draw(st.integers(0, 9))
    length += draw(st.integers(0 if length else 1, LIMIT))
    return Candidate(ids(length, length), np.array([length - 1], np.int32), tuple(placed))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(candidates(), min_size=1, max_size=6))
@torch.inference_mode()
def test_a_packed_candidate_scores_as_alone_in_the_plain_network(batch: list[Candidate]) -> None:
    for candidate, found in zip(batch, score(model(), batch), strict=True):
        assert found.shape == (1, 1)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, score_plain(model(), candidate), atol=2e-5)


def test_no_candidates_have_no_scores() -> None:
    assert score(model(), []) == []


@torch.inference_mode()
def test_partial_lora_moves_a_prompt_with_a_picture_and_no_other() -> None:
    without = tiny(weights() | {name: torch.zeros_like(w) for name, w in weights().items() if "Plora_B" in name})
    length = len(features(1, 1)) + 5
    text = Candidate(ids(0, length), np.array([length - 1], np.int32))
    seen = replace(text, pictures=(PlacedPicture(2, features(1, 1)),))
    with_text, with_picture = score(model(), [text, seen])
    np.testing.assert_allclose(score(without, [text])[0], with_text, atol=1e-6)
    assert abs(score(without, [seen])[0] - with_picture).item() > 1e-2


@torch.inference_mode()
def test_a_picture_has_the_tokens_that_its_layout_counts() -> None:
    for columns, rows in [*GRIDS, (3, 2), (5, 3)]:
        assert features(columns, rows).shape == (count_tokens(columns, rows, 2), SPEC.decoder.hidden_size)


@torch.inference_mode()
def test_newlines_end_the_rows_and_one_separator_stands_between_the_views() -> None:
    found, side = features(2, 1), SPEC.tile_side
    rows = [side, 2 * side + 1]  # the ends of the whole view's rows
    rows += [side * (side + 1) + 1 + (2 * side + 1) * row + 2 * side for row in range(side)]
    for row in rows:
        torch.testing.assert_close(found[row], found[side])
    same = torch.isclose(found, found[side], atol=1e-5).all(1)
    assert same.nonzero().flatten().tolist() == rows


@torch.inference_mode()
def test_a_single_tile_is_seen_twice_and_encoded_once() -> None:
    side = SPEC.tile_side
    whole, tiled = features(1, 1)[: side * (side + 1)], features(1, 1)[side * (side + 1) + 1 :]
    assert torch.equal(whole, tiled)
    picture = torch.randn(1, 3, SPEC.tile_size, SPEC.tile_size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network.whole_view(picture, SPEC.tile_size), picture)


@torch.inference_mode()
def test_more_tiles_than_go_through_the_tower_at_once_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = features(5, 3)
    monkeypatch.setattr(vision, "TILES_AT_ONCE_ON_CPU", 16)
    torch.testing.assert_close(picture_features(model(), pixels(5, 3)), expected, atol=2e-5, rtol=0)


def test_tiles_are_stitched_in_the_picture_s_reading_order() -> None:
    picture = torch.arange(3 * 4 * 6).view(1, 3, 4, 6)
    tiles = network.cut(picture, 2)
    assert torch.equal(tiles[4], picture[0, :, 2:, 2:4])
    stitched = network.stitch(tiles.permute(0, 2, 3, 1), 3)
    assert torch.equal(stitched, picture[0].permute(1, 2, 0))


def test_every_tensor_has_a_gradient() -> None:
    tensors = {name: tensor.requires_grad_() for name, tensor in weights().items()}
    loss(tiny(tensors)).backward()
    missing = [name for name, tensor in tensors.items() if tensor.grad is None or not tensor.grad.abs().max() > 0]
    assert missing == []


def test_the_plain_network_s_gradient_is_its_finite_difference() -> None:
    tensors = {name: tensor.double() for name, tensor in weights().items()}
    tensors[LORA].requires_grad_()
    loss(tiny(tensors)).backward()
    gradient = tensors[LORA].grad
    assert gradient is not None
    direction = gradient / gradient.norm()
    with torch.no_grad():
        ahead, behind = (loss(tiny(tensors | {LORA: tensors[LORA] + step * direction})) for step in (1e-3, -1e-3))
    assert float(ahead - behind) / 2e-3 == pytest.approx(float(gradient.norm()), rel=5e-3)


def loss(reward: IXCReward) -> torch.Tensor:
    rows = picture_features(reward, pixels(2, 1))
    length = len(rows) + 9
    # On a picture's row too: only there does the last layer's low-rank term show.
    readouts = np.array([5, length - 1], np.int32)
    return score_plain(reward, Candidate(ids(6, length), readouts, (PlacedPicture(2, rows),))).sum()


def copied(directory: Path, tensors: dict[str, torch.Tensor]) -> Path:
    shutil.copyfile(IXC_REWARD / "tiny-ixc-reward-560" / "config.json", directory / "config.json")
    save_file(tensors, directory / "model.safetensors")
    return directory


def load(directory: Path) -> IXCReward:
    return network.load(directory, torch.float32, torch.device("cpu"))


def test_a_checkpoint_may_lack_what_is_not_run_and_hold_stale_buffers(tmp_path: Path) -> None:
    stored = load_file(IXC_REWARD / "tiny-ixc-reward-560" / "model.safetensors")
    last = [name for name in stored if "post_layernorm" in name]
    assert len(last) == 2
    for name in last:
        del stored[name]
    stored["vit.vision_tower.vision_model.embeddings.position_ids"] = torch.arange(1601)
    assert load(copied(tmp_path, stored)).head.shape == (1, 64)


def test_a_checkpoint_without_its_low_rank_terms_is_refused(tmp_path: Path) -> None:
    stored = load_file(IXC_REWARD / "tiny-ixc-reward-560" / "model.safetensors")
    partial = {name: tensor for name, tensor in stored.items() if "Plora" not in name}
    with pytest.raises(CheckpointError, match=r"20 of \d+ tensors missing.*Plora_A"):
        load(copied(tmp_path, partial))
