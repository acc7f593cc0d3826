"""What a pod may do: rights, resources, secrets, images."""

import re
import tomllib
from collections.abc import Iterator
from decimal import Decimal

from k8s.checks.pods import pod_makers
from k8s.checks.registry import rule
from k8s.checks.shipped import Shipped
from worker import __version__

USER = 65532
_SECRET_NAME = re.compile(r"(key|secret|token|password|seed)s?$", re.IGNORECASE)
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_UNITS = {
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate(("", "k", "M", "G", "T"))},
    **{unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti"), start=1)},
}


@rule("security-context")
def security_context(shipped: Shipped) -> Iterator[str]:
    """Pod Security `restricted`, and a root that can't be written."""
    for maker in pod_makers(shipped):
        pod = maker.spec.get("securityContext", {})
        if pod.get("runAsNonRoot") is not True or pod.get("runAsUser") != USER or pod.get("runAsGroup") != USER:
            yield f"{maker.name} must run as {USER}, and not as root"
        if pod.get("fsGroup") != USER:
            yield f"{maker.name} has no fsGroup {USER}: it could not read its secrets"
        if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{maker.name} has no seccompProfile RuntimeDefault"
        for setting in ("hostNetwork", "hostPID", "hostIPC"):
            if maker.spec.get(setting):
                yield f"{maker.name} has {setting}"
        for container in maker.containers:
            context = container.get("securityContext", {})
            if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
                yield f"{maker.name} may gain privileges"
            if context.get("readOnlyRootFilesystem") is not True:
                yield f"{maker.name} may write to its root"
            capabilities = context.get("capabilities", {})
            if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
                yield f"{maker.name} keeps capabilities"
            if set(context) & {"runAsUser", "runAsNonRoot", "runAsGroup", "seccompProfile"}:
                yield f"{maker.name}: its container overrides what is said for the pod"
        for volume in maker.spec.get("volumes", ()):
            kinds = set(volume) - {"name"}
            if not kinds <= {"configMap", "secret", "emptyDir"}:
                yield f"{maker.name} has a volume of kind {', '.join(sorted(kinds))}"


@rule("tokens")
def tokens(shipped: Shipped) -> Iterator[str]:
    """No Kubernetes token in any pod, no role, and no variables of Services, which would be taken for settings."""
    for account in shipped.of("ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount {account['metadata']['name']} mounts its token"
    for maker in pod_makers(shipped):
        if maker.spec.get("automountServiceAccountToken") is not False:
            yield f"{maker.name} mounts a token"
        if maker.spec.get("enableServiceLinks") is not False:
            yield f"{maker.name} gets variables for each Service, some of them named like settings"
    for document in shipped.of("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
        yield f"{document['kind']} {document['metadata']['name']}: nothing here needs the Kubernetes API"


@rule("resources")
def resources(shipped: Shipped) -> Iterator[str]:
    """Requests and limits, of sizes that mean something; no CPU limit, which would stall the event loop."""
    for maker in pod_makers(shipped):
        for container in maker.containers:
            given = container.get("resources", {})
            requests, limits = given.get("requests", {}), given.get("limits", {})
            for name in ("cpu", "memory", "ephemeral-storage"):
                if name not in requests or (name not in limits and name != "cpu"):
                    yield f"{maker.name} has no request or no limit of {name}"
            if "cpu" in limits:
                yield f"{maker.name} has a CPU limit"
            for name, request in requests.items():
                if quantity(request) > quantity(limits.get(name, request)):
                    yield f"{maker.name} requests more {name} than its limit"
            if "memory" in limits and not 64 * 2**20 <= quantity(limits["memory"]) <= 4 * 2**30:
                yield f"{maker.name}: a memory limit of {limits['memory']} is a slip of the unit"


def quantity(text: object) -> Decimal:
    """Return a quantity as a number: bytes, or cores. Raises ValueError."""
    found = _QUANTITY.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r} is not a quantity")
    return Decimal(found[1]) * _UNITS[found[2] or ""]


@rule("images")
def images(shipped: Shipped) -> Iterator[str]:
    """One image for all, of this version, and by digest in production."""
    found = {container["image"] for maker in pod_makers(shipped) for container in maker.containers}
    if len(found) > 1:
        yield f"the pods have different images: {', '.join(sorted(found))}"
    for image in sorted(found):
        if shipped.overlay == "prod" and not re.search(r"@sha256:[0-9a-f]{64}$", image):
            yield f"{image} has no digest: a tag can be moved"
        if "@" not in image and not image.endswith(f":{__version__}"):
            yield f"{image} is not of version {__version__}"


@rule("secrets")
def secrets(shipped: Shipped) -> Iterator[str]:
    """No Secret is made here and none is written out: not in a variable, an argument or a configuration file."""
    for document in shipped.of("Secret"):
        yield f"Secret {document['metadata']['name']} is rendered: it would be in git, and overwrite the real one"
    for maker in pod_makers(shipped):
        for container in maker.containers:
            for one in container.get("env", ()):
                if _SECRET_NAME.search(one["name"]) and one.get("value"):
                    yield f"{maker.name} has the secret {one['name']} written out"
                if "secretKeyRef" in one.get("valueFrom", {}):
                    yield f"{maker.name} gets {one['name']} as a variable: a rotated one would need a restart"
            if container.get("envFrom"):
                yield f"{maker.name} takes whole maps as variables"
    for document in shipped.of("ConfigMap"):
        for file, text in document.get("data", {}).items():
            if file.endswith(".toml"):
                for path in _written_out(tomllib.loads(text)):
                    yield f"{file} has {path} written out: name a file"


def _written_out(values: object, path: str = "") -> Iterator[str]:
    if isinstance(values, dict):
        for key, value in values.items():
            if key in ("api_key", "secret_key", "password", "token", "user"):
                yield f"{path}{key}"
            yield from _written_out(value, f"{path}{key}.")
    elif isinstance(values, list):
        for value in values:
            if isinstance(value, str) and re.search(r"//[^/]*@", value):
                yield f"{path.rstrip('.')} with a login"
