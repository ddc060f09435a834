"""Packed attention against its reference, and the reference against torch's own, on odd shapes."""

import pytest
import torch
from torch.nn import functional

from kernels.packed_attention import packed_attention, packed_attention_reference


def _qkv(tokens: int, heads: int, kv_heads: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    return (
        torch.randn(tokens, heads, width, generator=generator),
        torch.randn(tokens, kv_heads, width, generator=generator),
        torch.randn(tokens, kv_heads, width, generator=generator),
    )


@pytest.mark.parametrize("lengths", [[1], [7], [63], [100], [1, 7, 63, 100], [1, 1, 1]])
@pytest.mark.parametrize(("heads", "kv_heads", "width"), [(4, 4, 8), (6, 2, 16), (8, 1, 6)])
def test_the_fast_path_equals_the_reference(lengths: list[int], heads: int, kv_heads: int, width: int) -> None:
    q, k, v = _qkv(sum(lengths), heads, kv_heads, width)
    expected = packed_attention_reference(q, k, v, lengths)
    torch.testing.assert_close(packed_attention(q, k, v, lengths), expected, rtol=1e-5, atol=1e-6)


def test_a_sequence_does_not_see_its_neighbours() -> None:
    q, k, v = _qkv(30, 4, 2, 8)
    together = packed_attention(q, k, v, [10, 20])
    alone = packed_attention(q[10:], k[10:], v[10:], [20])
    torch.testing.assert_close(together[10:], alone, rtol=1e-6, atol=1e-7)


def test_a_token_does_not_see_the_future() -> None:
    q, k, v = _qkv(12, 4, 2, 8)
    changed_k, changed_v = k.clone(), v.clone()
    changed_k[8:], changed_v[8:] = 100.0, -100.0
    before = packed_attention_reference(q, k, v, [12])
    after = packed_attention_reference(q, changed_k, changed_v, [12])
    assert torch.equal(before[:8], after[:8])
    assert not torch.allclose(before[8:], after[8:])


def test_the_reference_groups_query_heads_as_torch_does() -> None:
    q, k, v = _qkv(9, 6, 2, 16)
    heads_first = [x.transpose(0, 1).unsqueeze(0) for x in (q, k.repeat_interleave(3, 1), v.repeat_interleave(3, 1))]
    expected = functional.scaled_dot_product_attention(heads_first[0], heads_first[1], heads_first[2], is_causal=True)
    ours = packed_attention_reference(q, k, v, [9])
    torch.testing.assert_close(ours, expected.squeeze(0).transpose(0, 1), rtol=1e-5, atol=1e-6)
