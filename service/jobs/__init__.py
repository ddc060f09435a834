"""Jobs: groups that are handed over in bulk and scored when nothing more urgent waits."""

from redis.asyncio import Redis

from service.jobs.memory import MemoryJobStore
from service.jobs.redis import RedisJobStore
from service.jobs.store import JobLimits, JobStore


def make_store(redis: Redis | None, limits: JobLimits) -> JobStore:
    """The gateways' common store in Redis, or without one this gateway's memory, which a restart empties."""
    return MemoryJobStore(limits) if redis is None else RedisJobStore(redis, limits)
