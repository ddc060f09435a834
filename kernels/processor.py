"""What torch's own operators can do with a tensor on this processor."""

import torch

# Rows that several operators in turn had better take together: what one writes is in the cache when the next reads it.
CACHED_ROWS = 256
# The compiler's own operators, which a torch built without oneDNN lacks.
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
_ONEDNN_BFLOAT16 = _ONEDNN and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
_AMX = bool(torch.cpu._is_amx_tile_supported())
# AVX-512 BF16 or AMX.
MULTIPLIES_BFLOAT16 = _AMX or bool(torch.cpu._is_avx512_bf16_supported())


def has_onednn(x: torch.Tensor) -> bool:
    """Whether oneDNN's products, packed and fused, take x."""
    known = _ONEDNN_BFLOAT16 if x.dtype == torch.bfloat16 else _ONEDNN and x.dtype == torch.float32
    return x.device.type == "cpu" and known


def has_amx(x: torch.Tensor) -> bool:
    """Whether the processor's matrix unit multiplies x: bfloat16 alone, several times faster than its vectors do."""
    return _AMX and x.device.type == "cpu" and x.dtype == torch.bfloat16
