"""What an engine tells its gateway about its caches and its kernels, for metrics."""

from collections.abc import Mapping
from dataclasses import dataclass

from models.prefix_cache import CacheCounts
from service.feature_cache import FeatureCounts


@dataclass(frozen=True, slots=True)
class EngineCounts:
    """Each model's prefix cache, the vision cache of all of them, and the tokens that a forward may hold now.

    `fallbacks` names the kernels that failed when the engine started, whose work torch does.
    """

    prefixes: Mapping[str, CacheCounts]
    features: FeatureCounts
    batch_tokens: int
    fallbacks: tuple[str, ...] = ()
