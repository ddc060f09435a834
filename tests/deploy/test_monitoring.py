"""Whatever the dashboard, the alerts and the autoscaler read is what a server really exports."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.files import ROOT, base, compose
from tests.deploy.promises import OF_THE_REDIS_QUEUE
from tests.deploy.queries import read
from tests.service.running import PATIENCE_S, shared

PROMETHEUS, GRAFANA = ROOT / "deploy" / "prometheus", ROOT / "deploy" / "grafana"
# Given by Prometheus to whatever it collects.
PROMETHEUS_OWN = {"up", "instance", "job"}
Exported = Mapping[str, set[str]]


@pytest.fixture(scope="module")
def exported(request: pytest.FixtureRequest) -> Exported:
    """Every series' name with its labels, from a server that has scored something."""
    server = shared(request.session)
    group = json.loads((ROOT / "examples" / "group.json").read_text("utf-8"))
    with server.client() as client:
        assert client.post("/score_steps", json=group).status_code == 200
    found: defaultdict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(httpx2.get(server.url + "/metrics", timeout=PATIENCE_S).text):
        for sample in family.samples:
            found[sample.name] |= sample.labels.keys()
    return found | {name: {"model", "rank"} for name in OF_THE_REDIS_QUEUE}


def problems(query: str, exported: Exported, legend: str = "") -> list[str]:
    """What of a query no server exports."""
    try:
        asked = read(query)
    except ValueError as error:
        return [f"{query}: {error}"]
    labels = set().union(*(exported.get(metric, set()) for metric in asked.metrics))
    wanted = asked.labels | set(re.findall(r"{{ *(?:\$labels\.)?(\w+) *}}", legend))
    return [
        *(f"{query}: no metric {name}" for name in sorted(asked.metrics - exported.keys() - PROMETHEUS_OWN)),
        *(f"{query}: no label {name}" for name in sorted(wanted - labels - PROMETHEUS_OWN)),
    ]


@pytest.mark.parametrize(
    ("query", "legend", "found"),
    [
        ("sum(rate(steelyard_candidate_total[5m]))", "", "no metric steelyard_candidate_total"),
        ("sum(steelyard_requests)", "", "no metric steelyard_requests"),
        ("sum by (modle) (rate(steelyard_candidates_total[5m]))", "", "no label modle"),
        ('rate(steelyard_requests_total{code="503"}[5m])', "", "no label code"),
        ("steelyard_engine_restarts", "{{pod}}", "no label pod"),
        ("sum(rate(steelyard_candidates_total[5m])", "", "sum"),
    ],
)
def test_a_wrong_query_is_found(exported: Exported, query: str, legend: str, found: str) -> None:
    assert any(found in problem for problem in problems(query, exported, legend))


def test_the_dashboard_reads_what_is_exported(exported: Exported) -> None:
    for panel in _dashboard()["panels"]:
        for target in panel["targets"]:
            assert problems(target["expr"], exported, target["legendFormat"]) == [], panel["title"]


def test_the_panels_do_not_overlap_and_have_an_id_each() -> None:
    panels = _dashboard()["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_alerts_read_what_is_exported(exported: Exported) -> None:
    rules = [rule for group in _yaml(PROMETHEUS / "alerts.yml")["groups"] for rule in group["rules"]]
    for rule in rules:
        # What a summary names is a label that the rule still has.
        assert problems(rule["expr"], exported, rule["annotations"]["summary"]) == [], rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
    assert len({rule["alert"] for rule in rules}) == len(rules)


def test_the_autoscaler_reads_what_is_exported(exported: Exported) -> None:
    for found in base():
        if found["kind"] == "ScaledObject":
            for trigger in found["spec"]["triggers"]:
                assert problems(trigger["metadata"]["query"], exported) == []


def test_each_alert_is_explained() -> None:
    text = (ROOT / "docs" / "deployment.md").read_text("utf-8")
    for group in _yaml(PROMETHEUS / "alerts.yml")["groups"]:
        assert [rule["alert"] for rule in group["rules"] if rule["alert"] not in text] == []


def test_prometheus_collects_from_every_process_of_the_project() -> None:
    configuration, services = _yaml(PROMETHEUS / "prometheus.yml"), compose()["services"]
    assert all((PROMETHEUS / name).exists() for name in configuration["rule_files"])
    found = [place for job in configuration["scrape_configs"] for place in job["dns_sd_configs"]]
    ports = {name: place["port"] for place in found for name in place["names"]}
    assert services["worker"]["command"] == ["--metrics-port", str(ports.pop("worker"))]
    assert services["gateway"]["ports"] == [f"127.0.0.1:8000:{ports.pop('gateway')}"]
    assert not ports


def test_the_alerts_name_jobs_that_are_collected() -> None:
    jobs = {job["job_name"] for job in _yaml(PROMETHEUS / "prometheus.yml")["scrape_configs"]}
    assert set(re.findall(r'job="([^"]*)"', (PROMETHEUS / "alerts.yml").read_text("utf-8"))) <= jobs


def test_grafana_finds_its_dashboard_and_its_prometheus() -> None:
    (source,) = _yaml(GRAFANA / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    (provider,) = _yaml(GRAFANA / "provisioning" / "dashboards" / "steelyard.yml")["providers"]
    grafana = compose()["services"]["grafana"]
    mounted = dict(reversed(mount.split(":")[:2]) for mount in grafana["volumes"])
    assert mounted[provider["options"]["path"]] == "./deploy/grafana/dashboards"
    assert mounted["/etc/grafana/provisioning"] == "./deploy/grafana/provisioning"
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home.startswith(provider["options"]["path"])
    assert (GRAFANA / "dashboards" / home.rpartition("/")[2]).exists()
    assert source["url"] == "http://prometheus:9090"
    asked = {part["datasource"]["uid"] for panel in _dashboard()["panels"] for part in (panel, *panel["targets"])}
    assert asked == {source["uid"]}


def test_whoever_reaches_grafana_may_only_look() -> None:
    environment = compose()["services"]["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"


def _dashboard() -> dict[str, Any]:
    found = json.loads((GRAFANA / "dashboards" / "steelyard.json").read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def _yaml(path: Any) -> dict[str, Any]:  # noqa: ANN401
    found = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(found, dict)
    return found
