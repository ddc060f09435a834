"""The manifests against Kubernetes's own schemas, and against the server that they deploy; no cluster is needed."""

from pathlib import Path

import pytest

import steelyard
from service.settings import Settings, read_settings
from tests.deploy.files import KUBECTL, KUBERNETES, Document, base, place, rendered
from tests.deploy.kubernetes_checks import environment, name_of, problems

OVERLAYS = sorted((KUBERNETES / "overlays").iterdir())
POD = "spec template spec"
CONTAINER = f"{POD} containers 0"
GATEWAY, WORKER = "Deployment steelyard-gateway", "Deployment steelyard-worker"
needs_kubectl = pytest.mark.skipif(KUBECTL is None, reason="no kubectl to render with")


def test_the_base_fits_the_server() -> None:
    assert problems(base()) == []


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda overlay: overlay.name)
def test_an_overlay_fits_the_server(overlay: Path) -> None:
    assert problems(rendered(overlay)) == []


@pytest.mark.parametrize(
    ("name", "path", "value", "found"),
    [
        (WORKER, f"{POD} terminationGracePeriodSeconds", 120, "while it drains"),
        (GATEWAY, f"{POD} terminationGracePeriodSeconds", 130, "while it drains"),
        ("ConfigMap steelyard", "data STEELYARD_DRAIN_S", "300", "while it drains"),
        ("ConfigMap steelyard", "data STEELYARD_MODELS", "a=/b", "STEELYARD_MODELS is no setting"),
        (WORKER, f"{CONTAINER} args 0", "--metric-port", "--metric-port"),
        (WORKER, f"{CONTAINER} imagePulPolicy", "Always", "imagePulPolicy"),
        (WORKER, f"{CONTAINER} resources limits", {}, "nothing bounds its memory"),
        (WORKER, f"{CONTAINER} livenessProbe exec command", ["true"], "livenessProbe"),
        (WORKER, f"{CONTAINER} livenessProbe failureThreshold", 1, "before it is taken out"),
        (WORKER, f"{CONTAINER} startupProbe", None, "startupProbe"),
        (WORKER, f"{CONTAINER} volumeMounts 1", {"name": "model", "mountPath": "/models"}, "volume model "),
        (WORKER, f"{CONTAINER} env 0 valueFrom secretKeyRef key", "address", "nobody is told"),
        (WORKER, f"{CONTAINER} image", "steelyard:0.0.9", "not one pinned image"),
        (WORKER, f"{CONTAINER} securityContext readOnlyRootFilesystem", None, "writable"),
        (WORKER, f"{CONTAINER} securityContext capabilities drop", ["NET_RAW"], "privileges"),
        (WORKER, f"{POD} securityContext runAsNonRoot", False, "as root"),
        (WORKER, f"{POD} securityContext seccompProfile", None, "seccomp"),
        (WORKER, f"{POD} enableServiceLinks", None, "taken for settings"),
        (WORKER, f"{POD} serviceAccountName", "default", "no account default"),
        (WORKER, "spec replicas", 2, "says how many it wants itself"),
        (WORKER, "spec selector matchLabels app.kubernetes.io/component", "gateway", "not the labels of its pods"),
        (WORKER, f"{POD} topologySpreadConstraints 0 labelSelector matchLabels", {}, "not the labels of its pods"),
        (WORKER, "metadata namespace", "steelyard", "the cluster's to choose"),
        (GATEWAY, f"{CONTAINER} readinessProbe httpGet path", "/healthz", "no route answers GET /healthz"),
        (GATEWAY, f"{CONTAINER} readinessProbe httpGet port", "web", "no port web"),
        (GATEWAY, f"{CONTAINER} livenessProbe httpGet path", "/score_steps", "no route answers GET /score_steps"),
        ("Service steelyard", "spec ports 0 targetPort", "web", "no port web"),
        ("Service steelyard", "spec selector app.kubernetes.io/component", "server", "chooses 0 deployments"),
        ("PodDisruptionBudget steelyard-worker", "spec selector matchLabels app", "x", "no PodDisruptionBudget"),
        ("PodDisruptionBudget steelyard-worker", "spec maxUnavailable", 1.5, "1.5"),
        ("NetworkPolicy steelyard-worker", "spec ingress 0 ports 0 port", "http", "no port http"),
        ("NetworkPolicy steelyard-worker", "spec podSelector matchLabels", {"app": "x"}, "no NetworkPolicy"),
        ("PodMonitor steelyard-worker", "spec podMetricsEndpoints 0 port", "http", "no port http"),
        ("PodMonitor steelyard-worker", "spec podMetricsEndpoints 0 targetport", 1, "targetport"),
        ("ScaledObject steelyard-worker", "spec scaleTargetRef name", "worker", "no deployment worker"),
        ("ScaledObject steelyard-worker", "spec minReplicaCount", 0, "minReplicaCount"),
        ("ScaledObject steelyard-worker", "spec triggers 0 metricType", "Value", "metricType"),
        (
            "ScaledObject steelyard-worker",
            "spec advanced horizontalPodAutoscalerConfig behavior scaleDown policies 0 periodSecs",
            9,
            "periodSecs",
        ),
    ],
)
def test_an_error_is_found(name: str, path: str, value: object, found: str) -> None:
    objects = base()
    place(_named(objects, name), path, value)
    assert any(found in problem for problem in problems(objects)), problems(objects)


def test_the_container_starts_with_the_settings_it_is_given() -> None:
    given = _variables(base(), GATEWAY)
    settings = read_settings([], given | {"STEELYARD_QUEUE": "memory", "STEELYARD_API_KEY": "one two"})
    assert list(settings.models) == list(read_settings([], {}).models)


def test_the_image_is_of_this_version() -> None:
    (image,) = {
        _named(base(), name)["spec"]["template"]["spec"]["containers"][0]["image"] for name in (GATEWAY, WORKER)
    }
    assert image == f"steelyard:{steelyard.__version__}"


def test_a_worker_of_the_autoscaler_is_worth_some_full_forwards() -> None:
    (trigger,) = _named(base(), "ScaledObject steelyard-worker")["spec"]["triggers"]
    assert int(trigger["metadata"]["threshold"]) == 4 * Settings.model_fields["batch_tokens"].default


def test_a_worker_is_not_taken_while_the_one_before_it_drains() -> None:
    scaled = _named(base(), "ScaledObject steelyard-worker")["spec"]["advanced"]["horizontalPodAutoscalerConfig"]
    grace_s = _named(base(), WORKER)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert all(policy["periodSeconds"] >= grace_s for policy in scaled["behavior"]["scaleDown"]["policies"])


def test_redis_is_not_deployed() -> None:
    assert not [name_of(found) for found in base() if "redis" in found["metadata"]["name"]]


@needs_kubectl
def test_the_base_reads_as_kubectl_renders_it() -> None:
    plain = {name_of(found): found for found in base()}
    for found in rendered(KUBERNETES / "base"):
        assert found == plain[name_of(found)]


@needs_kubectl
def test_the_gpu_overlay_asks_for_a_gpu_and_a_place_for_the_models() -> None:
    objects = rendered(KUBERNETES / "overlays" / "gpu")
    pod = _named(objects, WORKER)["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert _variables(objects, WORKER)["STEELYARD_DEVICE"] == "cuda"
    for name in (GATEWAY, WORKER):
        volumes = _named(objects, name)["spec"]["template"]["spec"]["volumes"]
        assert {"name": "models", "persistentVolumeClaim": {"claimName": "steelyard-models"}} in volumes
    assert _named(objects, GATEWAY)["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"].keys() == {
        "memory"
    }


def _variables(objects: list[Document], name: str) -> dict[str, str]:
    return environment(_named(objects, name)["spec"]["template"]["spec"], objects)


def _named(objects: list[Document], name: str) -> Document:
    (found,) = (found for found in objects if name_of(found) == name)
    return found
