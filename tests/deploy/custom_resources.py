"""The fields of the resources that Kubernetes itself does not know, as far as the deployment uses them.

Written after KEDA 2.17 and the Prometheus operator 0.80: whatever is not here has to be looked up there first.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Metadata(_Fields):
    name: str
    labels: dict[str, str]


class _Target(_Fields):
    name: str


class _Fallback(_Fields):
    failureThreshold: int = Field(ge=1)  # noqa: N815
    replicas: int = Field(ge=0)
    behavior: Literal["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"]


class _AutoscalerConfig(_Fields):
    # The autoscaler's own schema judges it.
    behavior: dict[str, Any]


class _Advanced(_Fields):
    horizontalPodAutoscalerConfig: _AutoscalerConfig  # noqa: N815


class _Query(_Fields):
    serverAddress: str = Field(pattern="^https?://")  # noqa: N815
    query: str
    threshold: str = Field(pattern=r"^\d+(\.\d+)?$")
    ignoreNullValues: Literal["true", "false"]  # noqa: N815


class _Trigger(_Fields):
    type: Literal["prometheus"]
    name: str
    # The fallback works with averages alone.
    metricType: Literal["AverageValue"]  # noqa: N815
    metadata: _Query


class _Scaling(_Fields):
    scaleTargetRef: _Target  # noqa: N815
    minReplicaCount: int = Field(ge=1)  # noqa: N815
    maxReplicaCount: int = Field(ge=1)  # noqa: N815
    pollingInterval: int = Field(ge=1)  # noqa: N815
    fallback: _Fallback
    advanced: _Advanced
    triggers: list[_Trigger] = Field(min_length=1)


class ScaledObject(_Fields):
    apiVersion: Literal["keda.sh/v1alpha1"]  # noqa: N815
    kind: Literal["ScaledObject"]
    metadata: _Metadata
    spec: _Scaling

    def autoscaler(self) -> dict[str, Any]:
        """What KEDA makes of it, as far as Kubernetes will judge it."""
        return {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": self.metadata.name},
            "spec": {
                "scaleTargetRef": {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": self.spec.scaleTargetRef.name,
                },
                "minReplicas": self.spec.minReplicaCount,
                "maxReplicas": self.spec.maxReplicaCount,
                "behavior": self.spec.advanced.horizontalPodAutoscalerConfig.behavior,
            },
        }


class _Selector(_Fields):
    matchLabels: dict[str, str]  # noqa: N815


class _Endpoint(_Fields):
    port: str
    path: str
    interval: str = Field(pattern=r"^\d+s$")


class _Monitoring(_Fields):
    selector: _Selector
    podMetricsEndpoints: list[_Endpoint] = Field(min_length=1)  # noqa: N815


class PodMonitor(_Fields):
    apiVersion: Literal["monitoring.coreos.com/v1"]  # noqa: N815
    kind: Literal["PodMonitor"]
    metadata: _Metadata
    spec: _Monitoring


KINDS: dict[str, type[ScaledObject] | type[PodMonitor]] = {"ScaledObject": ScaledObject, "PodMonitor": PodMonitor}
