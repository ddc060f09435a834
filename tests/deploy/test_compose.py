"""`docker-compose.yml` and its overrides; no container engine is needed to see that they fit the server."""

from pathlib import Path

import pytest

from tests.deploy.compose_checks import problems, redis_options
from tests.deploy.files import ROOT, compose, place
from tests.deploy.project_redis import project_redis

GPU = ROOT / "deploy" / "compose.gpu.yml"


@pytest.mark.parametrize("overrides", [(), (GPU,)])
def test_the_project_fits_the_server(overrides: tuple[Path, ...]) -> None:
    assert problems(compose(*overrides)) == []


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        ("services worker helthcheck", {}, "helthcheck"),
        ("services worker environment STEELYARD_PROT", "1", "STEELYARD_PROT"),
        ("services worker stop_grace_period", "2m", "while it drains"),
        ("services worker container_name", "worker", "scaled"),
        ("services worker ports", ["127.0.0.1:9091:9090"], "scaled"),
        ("services worker command 0", "--metric-port", "--metric-port"),
        ("services worker entrypoint 2", "service", "entry point"),
        ("services worker healthcheck test 4", "--chek", "--chek"),
        ("services worker read_only", None, "writable"),
        ("services worker environment STEELYARD_MODEL", "a=/b", "another STEELYARD_MODEL"),
        ("services gateway ports 0", "8000:8000", "more than this machine"),
        ("services gateway security_opt", None, "privileges"),
        ("services gateway environment STEELYARD_API_KEY", "letmein", "written into the file"),
        ("services gateway depends_on", {"redis": {"condition": "ready"}}, "'ready'"),
        ("services redis image", "valkey/valkey:latest", "not pinned"),
        ("services redis command 2", "no", "appendonly"),
        ("services redis command 10", "allkeys-lru", "noeviction"),
        ("services redis volumes", None, "gone with it"),
        ("services redis ports", ["127.0.0.1:6379:6379"], "no password"),
        ("networks queue internal", False, "not internal"),
        ("services prometheus volumes 0", "./deploy/promethius:/etc/prometheus:ro", "promethius"),
        ("volumes models", None, "no volume models"),
    ],
)
def test_an_error_is_found(path: str, value: object, found: str) -> None:
    project = compose()
    place(project, path, value)
    assert any(found in problem for problem in problems(project)), problems(project)


def test_the_default_is_small() -> None:
    default = [name for name, service in compose()["services"].items() if "profiles" not in service]
    assert sorted(default) == ["gateway", "redis", "worker"]


def test_a_gpu_reaches_the_worker_alone() -> None:
    services = compose(GPU)["services"]
    assert [name for name, service in services.items() if "deploy" in service] == ["worker"]
    assert services["worker"]["environment"]["STEELYARD_DEVICE"] == "cuda"


def test_a_redis_that_is_killed_keeps_what_it_was_told(tmp_path: Path) -> None:
    with project_redis(tmp_path) as client:
        kept = client.config_get("*")
        client.set("told", "something")
    with project_redis(tmp_path) as client:
        assert client.get("told") == b"something"
    options = redis_options(compose()["services"]["redis"])
    assert options["maxmemory"] == "4gb"
    assert options | {"maxmemory": str(4 * 2**30)} == {name: kept[name] for name in options}
