"""The plain network: differentiable all the way down, and equal to the packed one in any company."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import plain
from models.candidate import Candidate, PlacedPicture
from models.pausing import run_through
from models.vision import TILES_AT_ONCE, TILES_AT_ONCE_ON_CPU
from models.visual_prm.network import VisualPRM, build, picture_features, score, score_plain, see_picture, tensor_shapes
from models.visual_prm.spec import read_spec
from tests.golden import TINY_VISUAL_PRM
from tests.models.drawing import draw

SPEC = read_spec(TINY_VISUAL_PRM)
LIMIT = 24
LABELS = "language_model.output.weight"
LEARNED = [
    "vision_model.embeddings.class_embedding",
    "vision_model.embeddings.position_embedding",
    "vision_model.embeddings.patch_embedding.weight",
    "vision_model.encoder.layers.0.attn.qkv.weight",
    "vision_model.encoder.layers.0.ls1",
    "vision_model.encoder.layers.2.mlp.fc2.bias",
    "mlp1.0.weight",
    "mlp1.1.weight",
    "mlp1.3.bias",
    "language_model.model.tok_embeddings.weight",
    "language_model.model.layers.0.attention.wqkv.weight",
    "language_model.model.layers.1.attention_norm.weight",
    "language_model.model.layers.2.feed_forward.w1.weight",
    "language_model.model.norm.weight",
    LABELS,
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Many small operations beside another test process: threads would spend their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def weights(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = tensor_shapes(SPEC) | {LABELS: (2, SPEC.decoder.hidden_size)}
    return {name: draw(shape, generator).to(dtype) for name, shape in shapes.items()}


def tiny(tensors: dict[str, torch.Tensor]) -> VisualPRM:
    """With so low a limit of positions that prompts of one batch lie on both sides of it."""
    rope = replace(SPEC.decoder.rope, max_positions=LIMIT)
    return build(replace(SPEC, decoder=replace(SPEC.decoder, rope=rope)), tensors)


@cache
def model() -> VisualPRM:
    return tiny(weights(torch.float32))


def tiles(seed: int, count: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    size = SPEC.tile_size
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


@cache
def features(seed: int) -> torch.Tensor:
    with torch.inference_mode():
        return picture_features(model(), tiles(seed))


def ids(seed: int, length: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    return np.random.default_rng(seed).integers(0, SPEC.decoder.vocab_size, length).astype(np.int32)


@st.composite
def candidates(draw: st.DrawFn) -> Candidate:
    length = draw(st.integers(9, 2 * LIMIT))
    pictures = draw(st.integers(0, 2))
    places = [1, 1 + SPEC.tokens_per_tile] if draw(st.booleans()) else [0, length - SPEC.tokens_per_tile]
    readouts = draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=4))
    return Candidate(
        ids(draw(st.integers(0, 99)), length),
        np.array(readouts, np.int32),
        tuple(PlacedPicture(place, features(place)) for place in places[:pictures]),
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(candidates(), min_size=1, max_size=6))
@torch.inference_mode()
def test_a_packed_candidate_scores_as_alone_in_the_plain_network(batch: list[Candidate]) -> None:
    for candidate, logits in zip(batch, score(model(), batch), strict=True):
        assert logits.shape == (len(candidate.readouts), 2)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, score_plain(model(), candidate), atol=2e-5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(candidates(), min_size=2, max_size=6).flatmap(lambda c: st.tuples(st.just(c), st.permutations(c))))
@torch.inference_mode()
def test_company_and_order_change_no_score(pair: tuple[list[Candidate], list[Candidate]]) -> None:
    batch, shuffled = pair
    alone = [score(model(), [candidate])[0] for candidate in shuffled]
    for together, one in zip(score(model(), shuffled), alone, strict=True):
        np.testing.assert_allclose(together, one, atol=2e-5)
    assert sum(map(len, score(model(), batch))) == sum(map(len, alone))


def test_no_candidates_have_no_scores() -> None:
    assert score(model(), []) == []


@torch.inference_mode()
def test_a_candidate_may_be_one_token_or_read_no_position() -> None:
    one = Candidate(ids(1, 1), np.array([0], np.int32))
    none = Candidate(ids(2, 5), np.array([], np.int32))
    found = score(model(), [none, one, none])
    assert [logits.shape for logits in found] == [(0, 2), (1, 2), (0, 2)]
    assert score_plain(model(), none).shape == (0, 2)
    np.testing.assert_allclose(found[1], score_plain(model(), one), atol=2e-5)


@torch.inference_mode()
def test_a_picture_may_fill_the_whole_prompt() -> None:
    rows = features(0)
    candidate = Candidate(ids(0, len(rows)), np.array([len(rows) - 1], np.int32), (PlacedPicture(0, rows),))
    other = replace(candidate, ids=ids(1, len(rows)))
    np.testing.assert_array_equal(score(model(), [candidate])[0], score(model(), [other])[0])


@torch.inference_mode()
def test_tiles_have_the_same_features_in_any_number() -> None:
    many = tiles(5, TILES_AT_ONCE + 3)
    alone = torch.cat([picture_features(model(), tile[None]) for tile in many])
    torch.testing.assert_close(picture_features(model(), many), alone, atol=2e-5, rtol=0)


@torch.inference_mode()
def test_a_picture_is_seen_with_a_pause_after_every_few_tiles() -> None:
    pauses: list[None] = []
    features = run_through(see_picture(model(), tiles(5, 2 * TILES_AT_ONCE_ON_CPU + 1)), lambda: pauses.append(None))
    assert len(pauses) == 3
    assert torch.equal(features, picture_features(model(), tiles(5, 2 * TILES_AT_ONCE_ON_CPU + 1)))


@torch.inference_mode()
def test_a_later_token_changes_no_earlier_hidden_state() -> None:
    decoder = model().decoder
    x = torch.randn(LIMIT, SPEC.decoder.hidden_size, generator=torch.Generator().manual_seed(0))
    half = LIMIT // 2
    torch.testing.assert_close(plain.decode(decoder, x)[:half], plain.decode(decoder, x[:half]), atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", LEARNED)
def test_the_plain_network_s_gradient_is_its_finite_difference(name: str) -> None:
    """Along the gradient and one other direction, in float64; past the limit of positions, with a picture.

    Norms, softmax and rotation are done in float32 whatever the weights are, which bounds how near it comes.
    """
    tensors = {key: tensor.double() for key, tensor in weights(torch.float32).items()}
    tensors[name].requires_grad_()
    loss(tiny(tensors)).backward()
    gradient = tensors[name].grad
    assert gradient is not None
    assert gradient.abs().max() > 1e-6
    noise = torch.randn(gradient.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for direction in (gradient, noise):
        direction = direction / direction.norm()
        expected = float((gradient * direction).sum())
        difference = finite_difference(lambda weight: loss(tiny(tensors | {name: weight})), tensors[name], direction)
        assert difference == pytest.approx(expected, rel=5e-3, abs=5e-4)


def loss(network: VisualPRM) -> torch.Tensor:
    rows = picture_features(network, tiles(4))
    candidate = Candidate(ids(6, LIMIT + 9), np.array([5, LIMIT + 8], np.int32), (PlacedPicture(2, rows),))
    logits = score_plain(network, candidate)
    return (logits[:, 0] - logits[:, 1]).sigmoid().mean()


@torch.no_grad()
def finite_difference(
    value: Callable[[torch.Tensor], torch.Tensor], weight: torch.Tensor, direction: torch.Tensor, step: float = 1e-3
) -> float:
    ahead, behind = (value(weight + sign * step * direction) for sign in (1, -1))
    return float(ahead - behind) / (2 * step)


def test_every_tensor_has_a_gradient() -> None:
    tensors = {name: tensor.requires_grad_() for name, tensor in weights(torch.float32).items()}
    loss(tiny(tensors)).backward()
    missing = [name for name, tensor in tensors.items() if tensor.grad is None or not tensor.grad.abs().max() > 0]
    assert missing == []
