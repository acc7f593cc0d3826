"""Mistakes that people make, planted one at a time in what production renders: a rule must find each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from k8s.checks.pods import worker_container, worker_pod
from k8s.checks.shipped import Document, Shipped

Plant = Callable[[Shipped], None]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One mistake, and the rule that is for it; others may find it too."""

    text: str
    rule: str
    plant: Plant
    nack: bool = False
    """Planted where NACK makes the streams, else where the setup Job does."""


FAULTS: list[Fault] = []


def fault(text: str, *, rule: str, nack: bool = False) -> Callable[[Plant], Plant]:
    """Add the decorated function to the faults."""

    def add(plant: Plant) -> Plant:
        FAULTS.append(Fault(text=text, rule=rule, plant=plant, nack=nack))
        return plant

    return add


def _put(
    text: str, rule: str, pick: Callable[[Shipped], dict[str, Any]], path: str, value: Any, *, nack: bool = False
) -> None:
    """Add a fault that sets what `path` (`a.b.0.c`) names in a part of the documents; None removes it."""

    @fault(text, rule=rule, nack=nack)
    def plant(shipped: Shipped) -> None:
        *way, last = path.split(".")
        place: Any = pick(shipped)
        for step in way:
            place = place[int(step)] if step.isdigit() else place.setdefault(step, {})
        key: Any = int(last) if last.isdigit() else last
        if value is None:
            del place[key]
        else:
            place[key] = value


def _replace(text: str, rule: str, file: str, old: str, new: str) -> None:
    """Add a fault that replaces text in a file, or in a file of the worker's ConfigMap."""

    @fault(text, rule=rule)
    def plant(shipped: Shipped) -> None:
        files: Any = shipped.files
        if file.endswith(".toml"):
            files = shipped.the("ConfigMap", "followers-config")["data"]
        assert old in files[file], f"{file} has no {old!r}"
        files[file] = files[file].replace(old, new, 1)


def _pod(shipped: Shipped) -> dict[str, Any]:
    return worker_pod(shipped).spec


def _template(shipped: Shipped) -> dict[str, Any]:
    template: dict[str, Any] = shipped.the("Deployment")["spec"]["template"]
    return template


def _a(kind: str, name: str = "") -> Callable[[Shipped], Document]:
    return lambda shipped: shipped.the(kind, name)


def _trigger(shipped: Shipped) -> dict[str, Any]:
    metadata: dict[str, Any] = shipped.the("ScaledObject")["spec"]["triggers"][0]["metadata"]
    return metadata


# What a schema sees.
_put("a misspelt field", "schema", _a("Deployment"), "spec.template.spec.restartpolicy", "Always")
_put("a number as text", "schema", worker_container, "ports.0.containerPort", "8080")
_put("an API version that is gone", "schema", _a("PodDisruptionBudget"), "apiVersion", "policy/v1beta1")
_put("a kind that isn't there", "schema", _a("PodDisruptionBudget"), "kind", "PodDisruptionBudgets")
_put("a field of a newer Kubernetes", "schema", worker_container, "resizeRestartPolicyNew", "x")
_put("a misspelt field of KEDA", "custom-resources", _a("ScaledObject"), "spec.minReplicas", 1)
_put("a number in trigger metadata", "custom-resources", _trigger, "lagThreshold", 64)
_put(
    "an HPA window above an hour",
    "custom-resources",
    _a("ScaledObject"),
    "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds",
    7200,
)
_put("a PodMonitor with `endpoints`", "custom-resources", _a("PodMonitor"), "spec.endpoints", [])
_put("KEDA's API under an old version", "custom-resources", _a("ScaledObject"), "apiVersion", "keda.sh/v1beta1")

# Where things land.
_put("a component's resource without namespace", "namespace", _a("ScaledObject"), "metadata.namespace", None)
_put(
    "a namespace that enforces nothing",
    "pod-security",
    _a("Namespace"),
    "metadata.labels",
    {"app.kubernetes.io/part-of": "followers"},
)
_put("a label value that is refused", "labels", _a("Deployment"), "metadata.labels.owner", "team followers!")
_put(
    "a pod outside the NetworkPolicies' label",
    "labels",
    _template,
    "metadata.labels",
    {"app.kubernetes.io/name": "followers-worker"},
)
_put("a name that is refused", "names", _a("ScaledObject"), "metadata.name", "Followers_Worker")


@fault("the same resource twice", rule="names")
def _twice(shipped: Shipped) -> None:
    shipped.documents.append(shipped.the("PodDisruptionBudget"))


# Whatever names something else.
_put(
    "a selector that misses its pods",
    "selectors",
    _a("Deployment"),
    "spec.selector.matchLabels",
    {"app.kubernetes.io/name": "worker"},
)
_put(
    "a PodDisruptionBudget for nobody",
    "selectors",
    _a("PodDisruptionBudget"),
    "spec.selector.matchLabels",
    {"app": "followers-worker"},
)
_put("a PodMonitor with an empty selector", "selectors", _a("PodMonitor"), "spec.selector", {})
_put(
    "a PodDisruptionBudget that counts Jobs",
    "selectors",
    _a("PodDisruptionBudget"),
    "spec.selector.matchLabels",
    {"app.kubernetes.io/part-of": "followers"},
)
_put("a spread over nobody", "selectors", _pod, "topologySpreadConstraints.0.labelSelector.matchLabels", {"a": "b"})
_put("a probe of a port that isn't there", "ports", worker_container, "livenessProbe.httpGet.port", "web")
_put("a PodMonitor of a port that isn't there", "ports", _a("PodMonitor"), "spec.podMetricsEndpoints.0.port", "metrics")
_put("a mount without volume", "volumes", worker_container, "volumeMounts.0.name", "configuration")
_put("two mounts at one path", "volumes", worker_container, "volumeMounts.1.mountPath", "/etc/followers")
_put("a secret by subPath", "volumes", worker_container, "volumeMounts.1.subPath", "seed")
_put("no /tmp on a read-only root", "volumes", worker_container, "volumeMounts.3.mountPath", "/var/tmp")
_put("a ConfigMap that isn't there", "references", _pod, "volumes.0.configMap.name", "followers-config")
_put("a Secret that no example shows", "references", _pod, "volumes.1.secret.secretName", "followers-nats-workers")
_put("a ServiceAccount that isn't there", "references", _pod, "serviceAccountName", "followers")
_put("secret files that only root reads", "references", _pod, "volumes.1.secret.defaultMode", 0o400)
_put("a configuration that can be edited", "configuration-by-name", _a("ConfigMap"), "immutable", None)

# Posture.
_put("root", "security-context", _pod, "securityContext.runAsUser", 0)
_put(
    "a writable root file system", "security-context", worker_container, "securityContext.readOnlyRootFilesystem", False
)
_put("capabilities kept", "security-context", worker_container, "securityContext.capabilities", {})
_put("no seccomp profile", "security-context", _pod, "securityContext.seccompProfile", None)
_put("privileges to gain", "security-context", worker_container, "securityContext.allowPrivilegeEscalation", None)
_put("no fsGroup", "security-context", _pod, "securityContext.fsGroup", None)
_put("a folder of the node", "security-context", _pod, "volumes.3", {"name": "tmp", "hostPath": {"path": "/tmp"}})
_put("a Kubernetes token in the pod", "tokens", _pod, "automountServiceAccountToken", True)
_put("a token by the ServiceAccount", "tokens", _a("ServiceAccount"), "automountServiceAccountToken", None)
_put("variables of Services", "tokens", _pod, "enableServiceLinks", None)
_put("no memory limit", "resources", worker_container, "resources.limits", {"ephemeral-storage": "128Mi"})
_put("a request above its limit", "resources", worker_container, "resources.requests.memory", "512Mi")
_put("memory in thousandths", "resources", worker_container, "resources.limits.memory", "384m")
_put("a quantity that is none", "resources", worker_container, "resources.requests.cpu", "a quarter")
_put("a CPU limit", "resources", worker_container, "resources.limits.cpu", "1")
_put("an image by `latest`", "images", worker_container, "image", "followers-worker:latest")
_put(
    "a Job with an older image", "images", _a("Job"), "spec.template.spec.containers.0.image", "followers-worker:0.0.9"
)
_put(
    "a secret written out in a variable",
    "secrets",
    worker_container,
    "env.0",
    {"name": "FOLLOWERS_NATS__PASSWORD", "value": "invented"},
)
_replace(
    "a key written out in the configuration",
    "secrets",
    "worker.toml",
    'api_key_file = "/run/secrets/accounts/my-shop"',
    'api_key = "invented"',
)
_replace("a login in a server's URL", "secrets", "worker.toml", "tls://nats.", "tls://worker:invented@nats.")


@fault("a Secret applied with the rest", rule="secrets")
def _secret(shipped: Shipped) -> None:
    metadata = {"name": "followers-accounts", "namespace": "followers"}
    shipped.documents.append({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"a": "b"}})


# Starting, stopping, rolling out.
_put("SIGTERM lost by process 1", "signals", _pod, "shareProcessNamespace", None)
_put(
    "an entry point without init", "signals", worker_container, "command", ["/opt/followers/bin/python", "-m", "worker"]
)
_put("a preStop hook that sleeps", "signals", worker_container, "lifecycle", {"preStop": {"sleep": {"seconds": 20}}})
_put("less grace than the drain takes", "grace", _pod, "terminationGracePeriodSeconds", 30)
_replace("a drain longer than the grace", "grace", "worker.toml", "drain_timeout = 25", "drain_timeout = 90")
_put("liveness that asks for the broker", "probes", worker_container, "livenessProbe.httpGet.path", "/readyz")
_put("readiness that doesn't", "probes", worker_container, "readinessProbe.httpGet.path", "/healthz")
_put("a start of ten seconds at most", "probes", worker_container, "startupProbe.failureThreshold", 5)
_put("replicas beside a ScaledObject", "rollout", _a("Deployment"), "spec.replicas", 2)
_put(
    "a PodDisruptionBudget that blocks drains",
    "rollout",
    _a("PodDisruptionBudget"),
    "spec",
    {
        "minAvailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": {"app.kubernetes.io/name": "followers-worker"}},
    },
)
_put("a rollout that takes away first", "rollout", _a("Deployment"), "spec.strategy.rollingUpdate.maxUnavailable", 1)

# Network.
_put("no default deny", "default-deny", _a("NetworkPolicy", "default-deny"), "spec.policyTypes", ["Ingress"])
_put("egress to everybody", "peers", _a("NetworkPolicy", "dns-and-nats"), "spec.egress.1.to", [])
_put("NATS on another port", "reach", _a("NetworkPolicy", "dns-and-nats"), "spec.egress.1.ports.0.port", 4223)
_put(
    "no DNS over TCP",
    "reach",
    _a("NetworkPolicy", "dns-and-nats"),
    "spec.egress.0.ports",
    [{"protocol": "UDP", "port": 53}],
)
_put(
    "a CIDR that is none",
    "ip-blocks",
    _a("NetworkPolicy", "providers"),
    "spec.egress.0.to.0.ipBlock.cidr",
    "0.0.0.0/33",
)
_put(
    "the cloud's metadata address open",
    "ip-blocks",
    _a("NetworkPolicy", "providers"),
    "spec.egress.0.to.0.ipBlock.except",
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
)
_put(
    "metrics open to all namespaces",
    "inward",
    _a("NetworkPolicy", "metrics"),
    "spec.ingress.0.from.0.namespaceSelector.matchLabels",
    {},
)


@fault("includeSelectors: true", rule="peers")
def _include_selectors(shipped: Shipped) -> None:
    for policy in shipped.of("NetworkPolicy"):
        for entry in policy["spec"].get("egress", ()):
            for peer in entry["to"]:
                if "podSelector" in peer:
                    peer["podSelector"]["matchLabels"]["app.kubernetes.io/part-of"] = "followers"


# Scaling.
_put("a ScaledObject for nobody", "scaling-target", _a("ScaledObject"), "spec.scaleTargetRef.name", "worker")
_put("more at least than at most", "scaling-numbers", _a("ScaledObject"), "spec.minReplicaCount", 20)
_put(
    "production from 0, where the fallback starts nothing",
    "scaling-numbers",
    _a("ScaledObject"),
    "spec.minReplicaCount",
    0,
)
_put("no fallback", "scaling-numbers", _a("ScaledObject"), "spec.fallback", None)
_put(
    "all workers taken away at once",
    "scaling-numbers",
    _a("ScaledObject"),
    "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.policies.0.value",
    100,
)
_put("a trigger of another type", "triggers", _a("ScaledObject"), "spec.triggers.0.type", "nats-streaming")
_put("a trigger on another consumer", "triggers", _trigger, "consumer", "worker")
_put("a trigger on another stream", "triggers", _trigger, "stream", "FOLLOWERS_EVENTS")
_put("a trigger on another account", "triggers", _trigger, "account", "$G")
_put("a trigger with a wrong key", "triggers", _trigger, "lagTreshold", "64")
_put(
    "the monitoring port of the plain Service",
    "triggers",
    _trigger,
    "natsServerMonitoringEndpoint",
    "nats.nats.svc.cluster.local:8222",
)
_put(
    "a scheme in the endpoint",
    "triggers",
    _trigger,
    "natsServerMonitoringEndpoint",
    "http://nats-headless.nats.svc.cluster.local:8222",
)
_put("a threshold below what one pod does at once", "triggers", _trigger, "lagThreshold", "10")


@fault("an HPA beside the ScaledObject", rule="scaling-target")
def _hpa(shipped: Shipped) -> None:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "followers-worker"}
    labels = {"app.kubernetes.io/part-of": "followers"}
    shipped.documents.append(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "followers-worker", "namespace": "followers", "labels": labels},
            "spec": {"scaleTargetRef": reference, "maxReplicas": 3},
        }
    )


@fault("a provider without a trigger", rule="triggers")
def _one_trigger(shipped: Shipped) -> None:
    del shipped.the("ScaledObject")["spec"]["triggers"][1]


# The worker's own names and settings.
_replace("a misspelt setting", "settings", "worker.toml", "max_jobs", "max_job")
_replace(
    "schedules of a worker that may not publish commands",
    "schedules",
    "worker.toml",
    "[log]\n",
    '[schedules.nightly]\ncron = "30 2 * * *"\nprovider = "etelecom"\noa_id = "579745863508352884"\n[log]\n',
)
_replace("a secret that isn't mounted", "settings", "worker.toml", "accounts/my-shop", "accounts/my-shops")
_replace("a worker that makes streams itself", "settings", "worker.toml", "auto_setup = false", "auto_setup = true")
_replace("production without TLS", "settings", "worker.toml", 'tls_ca = "/run/secrets/nats/ca.crt"\n', "")
_replace("a server that listens on loopback only", "listening", "worker.toml", "0.0.0.0", "127.0.0.1")
_replace("another port than the container's", "listening", "worker.toml", "http_port = 8080", "http_port = 9090")
_replace("the inbox of nobody's user", "nats-users", "worker.toml", "_INBOX_worker", "_INBOX")
_put("a worker with the login of setup", "nats-users", _pod, "volumes.1.secret.secretName", "followers-nats-setup")
_replace("a setup Job with other replicas", "agreement", "tools.toml", "replicas = 3", "replicas = 1")
_replace("a setup Job with another ack_wait", "agreement", "tools.toml", "ack_wait = 30", "ack_wait = 60")
_put("an argument that isn't one", "commands", worker_container, "args", ["work"])
_put(
    "an option that isn't one",
    "commands",
    _a("CronJob"),
    "spec.jobTemplate.spec.template.spec.containers.0.args",
    ["fetch", "etelecom", "1", "--wait-not"],
)
_put("metrics under another path", "metrics", _a("PodMonitor"), "spec.podMetricsEndpoints.0.path", "/prometheus")


@fault("an alert on a metric that isn't there", rule="metrics")
def _metric(shipped: Shipped) -> None:
    rules = [{"alert": "Quiet", "expr": "rate(followers_pages[5m]) == 0"}]
    labels = {"app.kubernetes.io/part-of": "followers"}
    shipped.documents.append(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "planted", "namespace": "followers", "labels": labels},
            "spec": {"groups": [{"name": "planted", "rules": rules}]},
        }
    )


# Streams.
@fault("the setup Job beside NACK", rule="one-maker")
def _both(shipped: Shipped) -> None:
    shipped.documents.append(
        {
            "apiVersion": "jetstream.nats.io/v1beta2",
            "kind": "Stream",
            "metadata": {
                "name": "dead",
                "namespace": "followers",
                "labels": {"app.kubernetes.io/part-of": "followers"},
            },
            "spec": {"name": "FOLLOWERS_DEAD", "subjects": ["followers.dead.etelecom"]},
        }
    )


_put(
    "a queue that keeps what was taken",
    "nack",
    _a("Stream", "followers-commands"),
    "spec.retention",
    "limits",
    nack=True,
)
_put("events older than their commands", "nack", _a("Stream", "followers-events"), "spec.maxAge", "24h", nack=True)
_put("streams with other replicas", "nack", _a("Stream", "followers-dead"), "spec.replicas", 1, nack=True)
_put("a consumer of everything", "nack", _a("Consumer"), "spec.filterSubjects", ["followers.fetch.>"], nack=True)
_put("another ack_wait than the worker's", "nack", _a("Consumer"), "spec.ackWait", "5m", nack=True)
_put("snapshots that age out before feeds", "nack", _a("ObjectStore"), "spec.ttl", "24h", nack=True)
_put("an old API of NACK", "custom-resources", _a("Stream"), "apiVersion", "jetstream.nats.io/v1beta1", nack=True)
_put("an allowDirect that KeyValue hasn't", "custom-resources", _a("KeyValue"), "spec.allowDirect", True, nack=True)


# Files.
_replace("Python as process 1", "dockerfile", "Dockerfile", '"/usr/bin/tini", "-s", "-e", "143", "--", ', "")
_replace(
    "a shell as process 1",
    "dockerfile",
    "Dockerfile",
    'ENTRYPOINT ["/usr/bin/tini", "-s", "-e", "143", "--", "/opt/followers/bin/followers"]',
    "ENTRYPOINT followers",
)
_replace("an image that runs as root", "dockerfile", "Dockerfile", "USER 65532:65532\n", "")


@fault("dependencies without hashes", rule="dockerfile")
def _no_hashes(shipped: Shipped) -> None:
    files: Any = shipped.files
    files["Dockerfile"] = files["Dockerfile"].replace("--require-hashes ", "")


_replace("a base without version", "dockerfile", "Dockerfile", "python:3.13-slim-bookworm\n\n", "python\n\n")
_replace("a package without version", "hadolint", "Dockerfile", "tini=0.19.*", "tini")
_replace("everything sent to the build", "dockerignore", ".dockerignore", "*\n", "")
_replace(
    "a right more for the worker's user", "accounts", "k8s/nats/accounts.conf", '"followers.page.>"', '"followers.>"'
)
_replace("an account without users", "nats-server", "k8s/nats/values.yaml", "00$include: accounts.conf", "debug: false")
_replace(
    "writes that wait for a disk", "nats-server", "k8s/nats/values.yaml", "sync_interval: always", "sync_interval: 2m"
)
_replace("two nodes", "nats-server", "k8s/nats/values.yaml", "replicas: 3", "replicas: 2")
_replace("an old nats-server", "nats-server", "k8s/nats/values.yaml", "2.14.2-alpine", "2.10.20-alpine")
