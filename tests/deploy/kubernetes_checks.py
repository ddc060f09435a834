"""What is wrong with a set of Kubernetes objects, in words."""

from collections.abc import Iterator, Sequence

import kubernetes_validate
from pydantic import ValidationError

from tests.deploy.custom_resources import KINDS, ScaledObject
from tests.deploy.files import Document
from tests.deploy.promises import answers_get, drain_s, is_variable, unknown_options

# The oldest release whose fields may be used: it was the first with a preStop that sleeps by default.
OLDEST = "1.30"
# What the deployment is told of by the cluster: Redis's address, and the callers' keys.
BY_REFERENCE = {("steelyard-redis", "url"), ("steelyard-keys", "keys")}
_CHECK = ["python", "-m", "service.worker", "--check"]


def problems(objects: Sequence[Document]) -> list[str]:
    deployments = [found for found in objects if found["kind"] == "Deployment"]
    return [
        *(f"{name_of(found)}: {problem}" for found in objects for problem in _against_the_schema(found)),
        *(f"{name_of(found)}: {problem}" for found in deployments for problem in _in_pods(found, objects)),
        *(f"{name_of(found)}: {problem}" for found in deployments for problem in _in_probes(found)),
        *(f"{name_of(found)}: {problem}" for found in objects for problem in _in_references(found, deployments)),
        *_missing(objects, deployments),
    ]


def name_of(found: Document) -> str:
    return f"{found['kind']} {found['metadata']['name']}"


def environment(pod: Document, objects: Sequence[Document]) -> dict[str, str]:
    """The variables of its container, those that come from a Secret empty."""
    given: dict[str, str] = {}
    for source in pod["containers"][0].get("envFrom", []):
        given |= _one(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    return given | {variable["name"]: variable.get("value", "") for variable in pod["containers"][0].get("env", [])}


def _against_the_schema(found: Document) -> Iterator[str]:
    try:
        if kind := KINDS.get(found["kind"]):
            made = kind.model_validate(found)
            found = made.autoscaler() if isinstance(made, ScaledObject) else {}
        if found:
            kubernetes_validate.validate(found, OLDEST, strict=True)
            kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)
    except ValidationError as error:
        yield from (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
    except kubernetes_validate.ValidationError as error:
        yield f"{'.'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield error.message


def _in_pods(deployment: Document, objects: Sequence[Document]) -> Iterator[str]:
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = environment(pod, objects)
    yield from (f"{name} is no setting" for name in variables if not is_variable(name))
    yield from (f"there is no option --{option}" for option in unknown_options(container.get("args", [])))
    slept = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    if pod["terminationGracePeriodSeconds"] <= slept + drain_s(variables):
        yield "it is killed while it drains"
    if pod.get("enableServiceLinks") is not False:
        yield "variables of other services would be taken for settings"
    if pod.get("automountServiceAccountToken") is not False:
        yield "it holds a token of the cluster"
    yield from _unrestricted(pod["securityContext"], container["securityContext"])
    if (
        not {"cpu", "memory"} <= container["resources"]["requests"].keys()
        or "memory" not in container["resources"]["limits"]
    ):
        yield "nothing bounds its memory, or it asks for nothing"
    volumes = {volume["name"] for volume in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    yield from (f"volume {name} is mounted and not there" for name in mounts.keys() - volumes)
    if not {"/tmp", "/models"} <= set(mounts.values()):
        yield "its root is read-only, and it has nowhere to write"
    for volume in pod["volumes"]:
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim and not any(name_of(found) == f"PersistentVolumeClaim {claim}" for found in objects):
            yield f"there is no claim {claim}"
    for variable in container.get("env", []):
        secret = variable.get("valueFrom", {}).get("secretKeyRef")
        if secret and (secret["name"], secret["key"]) not in BY_REFERENCE:
            yield f"nobody is told to make the Secret {secret['name']} with {secret['key']}"
    if not any(name_of(found) == f"ServiceAccount {pod['serviceAccountName']}" for found in objects):
        yield f"there is no account {pod['serviceAccountName']}"


def _unrestricted(pod: Document, container: Document) -> Iterator[str]:
    """What Kubernetes's restricted profile would refuse, and a root that can be written to."""
    if pod.get("runAsNonRoot") is not True or not pod.get("runAsUser"):
        yield "it may run as root"
    if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "it has no seccomp profile"
    if container.get("allowPrivilegeEscalation") is not False or container.get("capabilities") != {"drop": ["ALL"]}:
        yield "it may gain privileges"
    if container.get("readOnlyRootFilesystem") is not True:
        yield "its root is writable"


def _in_probes(deployment: Document) -> Iterator[str]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container.get(kind, {})
        if "httpGet" in probe:
            if not answers_get(probe["httpGet"]["path"]):
                yield f"{kind}: no route answers GET {probe['httpGet']['path']}"
            if probe["httpGet"]["port"] not in ports:
                yield f"{kind}: there is no port {probe['httpGet']['port']}"
        elif probe.get("exec", {}).get("command") != _CHECK or container.get("command") != _CHECK[:-1]:
            yield f"{kind}: there is none, or not the worker's"
    live, ready = container.get("livenessProbe", {}), container.get("readinessProbe", {})
    if _patience_s(live) < _patience_s(ready):
        yield "it is killed before it is taken out of service"


def _patience_s(probe: Document) -> int:
    return int(probe.get("periodSeconds", 10)) * int(probe.get("failureThreshold", 3))


def _in_references(found: Document, deployments: Sequence[Document]) -> Iterator[str]:
    """That what points at pods points at some, and at ports that they have."""
    kind, spec = found["kind"], found.get("spec", {})
    if kind == "Deployment":
        selectors = [constraint["labelSelector"] for constraint in _pod(found).get("topologySpreadConstraints", [])]
        for selector in [spec["selector"], *selectors]:
            if [name_of(other) for other in _selected(selector, deployments)] != [name_of(found)]:
                yield f"{selector['matchLabels']} are not the labels of its pods alone"
    elif kind in ("PodDisruptionBudget", "PodMonitor", "NetworkPolicy", "Service"):
        selector = spec.get("podSelector") or spec["selector"]
        chosen = _selected(selector if "matchLabels" in selector else {"matchLabels": selector}, deployments)
        if len(chosen) != 1:
            yield f"{selector} chooses {len(chosen)} deployments"
        for deployment in chosen:
            ports = {port["name"] for port in _pod(deployment)["containers"][0]["ports"]}
            yield from (f"there is no port {port}" for port in _ports_named(found) if port not in ports)
        for endpoint in spec.get("podMetricsEndpoints", []):
            if not answers_get(endpoint["path"]):
                yield f"no route answers GET {endpoint['path']}"
    elif kind == "ScaledObject":
        target = spec["scaleTargetRef"]["name"]
        scaled = [deployment for deployment in deployments if deployment["metadata"]["name"] == target]
        if not scaled:
            yield f"there is no deployment {target}"
        yield from (f"{target} says how many it wants itself" for other in scaled if "replicas" in other["spec"])


def _ports_named(found: Document) -> list[str]:
    spec = found["spec"]
    if found["kind"] == "Service":
        return [port["targetPort"] for port in spec["ports"]]
    if found["kind"] == "NetworkPolicy":
        return [port["port"] for rule in spec["ingress"] for port in rule["ports"]]
    return [endpoint["port"] for endpoint in spec.get("podMetricsEndpoints", [])]


def _missing(objects: Sequence[Document], deployments: Sequence[Document]) -> Iterator[str]:
    for deployment in deployments:
        for kind in ("PodDisruptionBudget", "NetworkPolicy"):
            covering = [
                found
                for found in objects
                if found["kind"] == kind
                and deployment in _selected(found["spec"].get("podSelector") or found["spec"]["selector"], deployments)
            ]
            if not covering:
                yield f"{name_of(deployment)}: no {kind} covers it"
    names = [(found["kind"], found["metadata"]["name"]) for found in objects]
    yield from (f"{kind} {name} is there twice" for kind, name in set(names) if names.count((kind, name)) > 1)
    yield from (
        f"{name_of(found)}: a namespace is the cluster's to choose"
        for found in objects
        if "namespace" in found["metadata"]
    )
    images = {container["image"] for deployment in deployments for container in _pod(deployment)["containers"]}
    if len(images) != 1 or ":" not in "".join(images) or any(image.endswith(":latest") for image in images):
        yield f"not one pinned image: {sorted(images)}"


def _selected(selector: Document, deployments: Sequence[Document]) -> list[Document]:
    wanted = selector["matchLabels"].items()
    return [one for one in deployments if wanted <= one["spec"]["template"]["metadata"]["labels"].items()]


def _pod(deployment: Document) -> Document:
    pod = deployment["spec"]["template"]["spec"]
    assert isinstance(pod, dict)
    return pod


def _one(objects: Sequence[Document], kind: str, name: str) -> Document:
    (found,) = (found for found in objects if (found["kind"], found["metadata"]["name"]) == (kind, name))
    return found
