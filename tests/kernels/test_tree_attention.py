"""Attention of a tree's rows: the reference against torch's own, the dispatch against the reference."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from kernels.attention_tiles import Block, cut_tiles, most_rows
from kernels.dispatch import interpreting
from kernels.tree_attention import Held, prepare, tile_rows, tree_attention, tree_attention_reference
from models.attention_blocks import plan_blocks
from models.token_tree import Path, build_tree
from tests.models.trees import Shape
from tests.models.trees import paths as drawn_paths

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
HELD = 40
LONG_RUNS = Shape(most_keys=5, most_repeats=25)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What the operator needs of a block."""

    first: int
    last: int
    keys: npt.NDArray[np.int64]
    visible: npt.NDArray[np.bool_]


@pytest.fixture(params=["plain", "amx", "kernel"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A processor without AMX, one said to have it, or what runs the kernel."""
    if request.param == "kernel":
        found: torch.device = request.getfixturevalue("kernel")
        return found
    monkeypatch.setattr("kernels.processor._AMX", request.param == "amx")
    return torch.device("cpu")


@pytest.fixture
def kernel() -> Iterator[torch.device]:
    """A processor that interprets the kernel, or a GPU where it is not interpreted."""
    forms = pytest.importorskip("kernels.triton.forms", reason="Triton is not installed")
    if forms.INTERPRETED:
        with interpreting():
            yield torch.device("cpu")
    elif torch.cuda.is_available():
        yield torch.device("cuda")
    else:
        pytest.skip("neither a GPU nor the interpreter")


def dispatch(
    q: torch.Tensor,
    new: Held,
    held: Held,
    blocks: Sequence[Block],
    device: torch.device,
    *,
    invariant: bool = False,
) -> torch.Tensor:
    """On the device; what is left unwritten is NaN."""
    q, new, held = q.to(device), _moved(new, device), _moved(held, device)
    output = torch.full_like(q, float("nan"))
    prepared = prepare(blocks, q, q.shape[1] // len(new.keys), invariant=invariant)
    deque(tree_attention(q, new, held, prepared, output), 0)
    return output.cpu()


def _moved(one: Held, device: torch.device) -> Held:
    return Held(one.keys.to(device), one.values.to(device))


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape))).to(dtype)


def heads(kv_heads: int, groups: int, width: int, dtype: torch.dtype, rows: int) -> tuple[torch.Tensor, Held, Held]:
    """Queries, new and held keys and values."""
    q = random(rows, kv_heads * groups, width, dtype=dtype) * width**-0.5
    new, held = (
        Held(*(random(kv_heads, tokens, width, dtype=dtype, seed=seed) for seed in seeds))
        for tokens, seeds in ((rows, (1, 2)), (HELD, (3, 4)))
    )
    return q, new, held


def causal(first: int, last: int, before: Sequence[int]) -> Rows:
    """Rows that see all of `before` and each other up to themselves."""
    keys = np.array([*before, *range(first, last)], np.int64)
    return Rows(first, last, keys, np.tri(last - first, dtype=np.bool_))


def forest() -> list[Rows]:
    """Held runs, scattered slots, new rows after them, siblings that hide keys from each other, one row alone."""
    in_a_row, scattered = [-1 - slot for slot in range(7, 19)], [-1 - slot for slot in (3, 30, 4, 39)]
    siblings = np.zeros((9, 4 + 9), np.bool_)
    siblings[:5, :3] = True
    siblings[5:, 2:4] = True
    siblings[:5, 4:9] = np.tri(5)
    siblings[5:, 9:] = np.tri(4)
    return [
        causal(0, 7, in_a_row),
        causal(7, 8, [*in_a_row, *range(7)]),
        causal(8, 71, [*in_a_row[:5], *scattered, *range(3)]),
        Rows(71, 80, np.array([*scattered, *range(8, 16), 2, -1, -2, 7, *range(71, 80)], np.int64), siblings),
        causal(80, 81, []),
        causal(81, 100, [80]),
        causal(100, 101, scattered),
        causal(101, 140, [100]),
    ]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("groups", [1, 2, 3, 4])
def test_the_reference_is_torchs_causal_attention_of_one_sequence(groups: int, dtype: torch.dtype) -> None:
    q, new, held = heads(2, groups, 8, dtype, 63)
    expected = functional.scaled_dot_product_attention(
        q.transpose(0, 1)[None], new.keys[None], new.values[None], is_causal=True, scale=1.0, enable_gqa=True
    )[0].transpose(0, 1)
    ours = tree_attention_reference(q, new, held, [causal(0, 63, [])])
    torch.testing.assert_close(ours, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_the_reference_sees_held_tokens_as_if_they_were_new() -> None:
    q, new, _ = heads(2, 3, 8, torch.float32, 63)
    whole = tree_attention_reference(q, new, Held(new.keys[:, :0], new.values[:, :0]), [causal(0, 63, [])])
    # The first 20 tokens in slots, last first.
    held = Held(new.keys[:, :20].flip(1), new.values[:, :20].flip(1))
    later = Held(new.keys[:, 20:], new.values[:, 20:])
    part = tree_attention_reference(q[20:], later, held, [causal(0, 43, [slot - 20 for slot in range(20)])])
    torch.testing.assert_close(part, whole[20:])


@pytest.mark.parametrize("invariant", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("width", [6, 8, 16])
@pytest.mark.parametrize("groups", [1, 2, 3, 4])
def test_dispatch_is_the_reference(
    groups: int, width: int, dtype: torch.dtype, invariant: bool, device: torch.device
) -> None:
    q, new, held = heads(2, groups, width, dtype, 140)
    ours = dispatch(q, new, held, forest(), device, invariant=invariant)
    expected = tree_attention_reference(q, new, held, forest())
    torch.testing.assert_close(ours, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("invariant", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 63, 100, 300])
def test_so_it_is_for_any_number_of_rows_and_one_head(rows: int, invariant: bool, device: torch.device) -> None:
    q, new, held = heads(1, 1, 64, torch.float32, rows)
    blocks = [causal(0, rows, [-1 - slot for slot in range(HELD)])]
    expected = tree_attention_reference(q, new, held, blocks)
    ours = dispatch(q, new, held, blocks, device, invariant=invariant)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("invariant", [False, True])
def test_a_key_that_is_hidden_changes_nothing(invariant: bool, dtype: torch.dtype, device: torch.device) -> None:
    """Huge ones stand where no row looks: in a sibling's rows, in slots of others, and after a row."""
    q, new, held = heads(2, 2, 8, dtype, 140)
    before = dispatch(q, new, held, forest(), device, invariant=invariant)
    seen = {key for block in forest() for key in block.keys.tolist()}
    other = Held(held.keys.clone(), held.values.clone())
    for slot in set(range(HELD)) - {-1 - key for key in seen if key < 0}:
        other.keys[:, slot], other.values[:, slot] = float("nan"), float("inf")
    assert torch.equal(dispatch(q, new, other, forest(), device, invariant=invariant), before)
    later = Held(new.keys.clone(), new.values.clone())
    later.keys[:, 75:80], later.values[:, 75:80] = 1e4, 1e30
    changed = dispatch(q, later, held, forest(), device, invariant=invariant)
    assert torch.equal(changed[:75], before[:75])
    assert torch.equal(changed[80:], before[80:])
    assert not torch.equal(changed[75:80], before[75:80])


def test_a_single_key_gives_its_value_whatever_its_score(device: torch.device) -> None:
    q, new, held = heads(2, 2, 8, torch.float32, 1)
    for invariant in (False, True):
        ours = dispatch(q * 1e4, new, held, [causal(0, 1, [])], device, invariant=invariant)
        torch.testing.assert_close(ours[0], new.values[:, 0].repeat_interleave(2, 0))


def test_no_blocks_have_no_rows(device: torch.device) -> None:
    q, new, held = heads(2, 2, 8, torch.float32, 3)
    assert dispatch(q, new, held, [], device).isnan().all()


def test_where_new_rows_lie_does_not_matter(device: torch.device) -> None:
    """A run of rows is a view and anything else a copy."""
    q, new, held = heads(2, 3, 8, torch.float32, 63)
    order = torch.randperm(63, generator=torch.Generator().manual_seed(0))
    block = causal(0, 63, [])
    moved = replace(block, keys=order.argsort().numpy())
    shuffled = Held(new.keys[:, order], new.values[:, order])
    ours, expected = dispatch(q, shuffled, held, [moved], device), dispatch(q, new, held, [block], device)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn_paths(LONG_RUNS), st.sampled_from([1, 3, 4]), st.booleans())
def test_so_it_is_for_drawn_trees(kernel: torch.device, given_paths: list[Path], groups: int, merge: bool) -> None:
    tree = build_tree(given_paths)
    q, new, held = heads(2, groups, 16, torch.float32, len(tree.keys))
    held = Held(*(random(2, 3 * 200, 16, seed=seed) for seed in (3, 4)))
    rows = tile_rows(q, groups) if merge else None
    blocks = plan_blocks(tree, groups, merge=merge, tile_rows=rows)
    if blocks:
        expected = tree_attention_reference(q, new, held, blocks)
        ours = dispatch(q, new, held, blocks, kernel, invariant=not merge)
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture
def exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter's products, by a library whose sums depend on a row's place in a tile, as a device's do not."""
    interpreter = pytest.importorskip("triton.runtime.interpreter", reason="Triton is not installed")

    def dot(self: object, a: Any, b: Any, d: Any, *how: object) -> object:  # noqa: ANN401 - the interpreter's handles
        product = np.matmul(a.data, b.data, dtype=np.float64).astype(np.float32)
        return interpreter.TensorHandle(product + d.data, d.dtype.scalar)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", dot)


@pytest.mark.usefixtures("exact_products")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_a_row_has_the_same_bits_wherever_its_path_is_cut(kernel: torch.device, dtype: torch.dtype) -> None:
    """One sequence, its first tokens in slots or among the new rows, in whole or a few rows of it, behind others."""
    width, length = 16, 150
    q = random(length, 6, width, dtype=dtype) * width**-0.5
    keys, values = (random(2, length, width, dtype=dtype, seed=seed) for seed in (1, 2))
    nothing = Held(keys[:, :0], values[:, :0])
    whole = dispatch(q, Held(keys, values), nothing, [causal(0, length, [])], kernel, invariant=True)
    for start, stop, before in [(63, 150, 3), (64, 140, 70), (149, 150, 20)]:
        count = stop - start
        held = Held(keys[:, :start].flip(1), values[:, :start].flip(1))
        # Strangers' rows come first, and see themselves alone.
        new = Held(*(torch.cat([x.flip(1)[:, :before], x[:, start:stop]], 1) for x in (keys, values)))
        rows = torch.cat([q.flip(0)[:before], q[start:stop]])
        blocks = [causal(0, before, [])] if before else []
        blocks.append(causal(before, before + count, [slot - start for slot in range(start)]))
        part = dispatch(rows, new, held, blocks, kernel, invariant=True)
        assert torch.equal(part[before:], whole[start:stop])


def test_places_beyond_two_thousand_million_elements_are_found(kernel: torch.device) -> None:
    """Slots lie so far apart that only the memory of those that are read is ever touched."""
    q, new, held = heads(1, 2, 16, torch.bfloat16, 5)
    apart = 1 << 30
    far = torch.empty(2 * apart + 32, dtype=torch.bfloat16, device=kernel).as_strided((2, 3, 16), (16, apart, 1))
    far[0], far[1] = held.keys[0, :3], held.values[0, :3]
    blocks = [causal(0, 5, [-3, -1, -2])]
    expected = tree_attention_reference(q, new, Held(held.keys[:, :3], held.values[:, :3]), blocks)
    ours = dispatch(q, new, Held(far[:1], far[1:]), blocks, kernel)
    torch.testing.assert_close(ours, expected, rtol=2e-2, atol=2e-2)


def test_a_prefix_is_loaded_once_for_siblings_of_few_rows() -> None:
    prefix = np.arange(100)
    keys = [np.concatenate([prefix, np.full(4, last)]) for last in range(100, 116)]
    tree = build_tree([Path(one, np.array([len(one) - 1], np.int32)) for one in keys])
    blocks = plan_blocks(tree, 2, tile_rows=most_rows(2))
    tiles = cut_tiles(blocks, 128, 2, torch.device("cpu"))
    # The prefix in two tiles, and its 16 branches of 4 rows in one.
    assert sorted(tiles.table[:, 3].tolist()) == [64, 100, 100 + 16 * 4]
