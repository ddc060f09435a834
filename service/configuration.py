"""From settings to what an engine process is told first."""

from collections.abc import Mapping
from pathlib import Path

from service.queue.frames import Configure, EngineModelSource
from service.settings import Settings


def engine_configuration(settings: Settings, directories: Mapping[str, Path]) -> Configure:
    """`directories` are the checkpoints by served name."""
    return Configure(
        models=tuple(EngineModelSource(name, str(directory)) for name, directory in directories.items()),
        device=settings.device,
        dtype=settings.dtype,
        threads=settings.threads,
        batch_tokens=settings.batch_tokens,
        batch_tiles=settings.batch_tiles,
        prefix_cache_bytes=settings.prefix_cache_bytes,
        vision_cache_bytes=settings.vision_cache_bytes,
        batch_invariant=settings.batch_invariant,
    )
