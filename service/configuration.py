"""From settings to what an engine process is told first."""

from service.queue.frames import Configure, EngineModelSource
from service.settings import Settings


def engine_configuration(settings: Settings, models: tuple[EngineModelSource, ...]) -> Configure:
    """What to load, and the settings that say how it runs."""
    return Configure(
        models=models,
        device=settings.device,
        dtype=settings.dtype,
        threads=settings.threads,
        batch_tokens=settings.batch_tokens,
        batch_tiles=settings.batch_tiles,
        prefix_cache_bytes=settings.prefix_cache_bytes,
        vision_cache_bytes=settings.vision_cache_bytes,
        batch_invariant=settings.batch_invariant,
    )
