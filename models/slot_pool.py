"""Keys and values of the tokens that a prefix cache holds, by slot, in every layer."""

import torch

from kernels.rotary import Slots
from kernels.tree_attention import Held
from models.spec import DecoderSpec

# Of branches of some ten tokens 96, as measured; of pictures of four tokens, which are known by name, 112.
_NOTES = 208


class SlotPool:
    """Memory for `slots` tokens, which a processor's system gives page by page as they are first written."""

    def __init__(self, spec: DecoderSpec, slots: int, dtype: torch.dtype, device: torch.device) -> None:
        shape = (spec.layers, spec.kv_heads, slots, spec.head_dim)
        self._keys = torch.empty(shape, dtype=dtype, device=device)
        self._values = torch.empty(shape, dtype=dtype, device=device)

    @staticmethod
    def token_bytes(spec: DecoderSpec, dtype: torch.dtype) -> int:
        """What a held token takes: keys, values, and what the prefix cache notes of it."""
        return _NOTES + 2 * spec.layers * spec.kv_heads * spec.head_dim * dtype.itemsize

    def layer(self, index: int) -> Held:
        return Held(self._keys[index], self._values[index])

    def slots(self, index: int, places: torch.Tensor) -> Slots:
        """Where to keep a layer's new rows: `places` (rows,) int64, each one's slot, or -1."""
        return Slots(self._keys[index], self._values[index], places)
