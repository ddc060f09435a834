"""The servers that are asked, made ready for prepared requests: their pictures are there before the first one."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from urllib.parse import urlsplit

from loadtest.bodies import Bodies, prepare
from loadtest.workload import Group, Shape, groups
from steelyard import Client, Retry

# Enough to differ in length, few enough to be in memory three times, once a priority.
_TEMPLATES = 64


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go and what they are."""

    urls: tuple[str, ...]
    shape: Shape
    model: str | None = None
    api_key: str | None = None
    deadline_ms: int | None = None
    seed: int = 0


def prepare_for(target: Target) -> Bodies:
    """Upload the pictures to every server and write the requests. Raises SteelyardError."""
    chosen = list(islice(groups(target.shape, target.seed), _TEMPLATES))
    pictures: dict[bytes, str] = {}
    for url in target.urls:
        with Client(url, api_key=target.api_key, retry=Retry(max_retries=0)) as client:
            pictures |= {picture: client.put_image(picture).id for picture in _pictures(chosen)}
    return prepare(
        chosen,
        pictures,
        host=urlsplit(target.urls[0]).netloc,
        api_key=target.api_key,
        model=target.model,
        deadline_ms=target.deadline_ms,
    )


def _pictures(chosen: Sequence[Group]) -> dict[bytes, None]:
    return dict.fromkeys(picture for group in chosen for picture in group.pictures)
