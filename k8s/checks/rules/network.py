"""Who may talk to whom: everything that the worker needs, and nothing else."""

import ipaddress
import tomllib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from k8s.checks.pods import PodMaker, matches, pod_makers, worker_pod
from k8s.checks.registry import rule
from k8s.checks.shipped import Shipped

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")
NAMESPACE = "kubernetes.io/metadata.name"


@rule("default-deny")
def default_deny(shipped: Shipped) -> Iterator[str]:
    """All that isn't allowed is refused, in both directions."""
    for policy in shipped.of("NetworkPolicy"):
        spec = policy["spec"]
        if not (spec.get("podSelector") or {}).get("matchLabels"):
            if spec.get("ingress") or spec.get("egress"):
                yield f"NetworkPolicy {policy['metadata']['name']} opens something for every pod of the namespace"
            elif set(spec.get("policyTypes", ())) == {"Ingress", "Egress"}:
                return
    yield "no NetworkPolicy refuses what isn't allowed, in both directions"


@rule("peers")
def peers(shipped: Shipped) -> Iterator[str]:
    """Peers keep their own labels: `includeSelectors` of kustomize writes ours into them, which cuts all traffic."""
    ours = {("app.kubernetes.io/part-of", "followers")}
    ours |= {
        ("app.kubernetes.io/name", maker.labels.get("app.kubernetes.io/name", "")) for maker in pod_makers(shipped)
    }
    for policy in shipped.of("NetworkPolicy"):
        name = policy["metadata"]["name"]
        for entry in [*(policy["spec"].get("ingress") or ()), *(policy["spec"].get("egress") or ())]:
            others = entry.get("to", entry.get("from"))
            if not others or not all(others):
                yield f"NetworkPolicy {name} lets everybody be a peer"
                continue
            if not entry.get("ports"):
                yield f"NetworkPolicy {name} opens every port"
            for peer in others:
                labels = peer.get("podSelector", {}).get("matchLabels", {})
                if ours & set(labels.items()):
                    yield f"NetworkPolicy {name} has a peer with labels of our own pods"
                if "ipBlock" not in peer and not (peer.get("namespaceSelector") or {}).get("matchLabels"):
                    yield f"NetworkPolicy {name} has a peer in no namespace or in all"


@rule("reach")
def reach(shipped: Shipped) -> Iterator[str]:
    """Each pod reaches names and NATS, and only the worker reaches the providers, who are outside."""
    for maker in pod_makers(shipped):
        open_to = list(_egress(shipped, maker))
        for port, protocol in ((53, "UDP"), (53, "TCP")):
            if not any(
                _to(peer, "kube-system", "k8s-app", "kube-dns") and (port, protocol) in ports for peer, ports in open_to
            ):
                yield f"{maker.name} can't look up names ({protocol})"
        for host, port in sorted(_servers(shipped)):
            namespace = host.split(".")[1] if "." in host else host
            if not any(
                _to(peer, namespace, "app.kubernetes.io/name", "nats") and (port, "TCP") in ports
                for peer, ports in open_to
            ):
                yield f"{maker.name} can't reach NATS at {host}:{port}"
        https = [peer["ipBlock"] for peer, ports in open_to if "ipBlock" in peer and (443, "TCP") in ports]
        if maker.document is worker_pod(shipped).document:
            if not any(block["cidr"] == "0.0.0.0/0" for block in https):
                yield "the worker can't reach the providers"
        elif https:
            yield f"{maker.name} may reach the internet"


@rule("ip-blocks")
def ip_blocks(shipped: Shipped) -> Iterator[str]:
    """Address blocks are real ones, and what is private, or the cloud's own, is left out of `everywhere`."""
    for policy in shipped.of("NetworkPolicy"):
        entries = [*(policy["spec"].get("ingress") or ()), *(policy["spec"].get("egress") or ())]
        for block in (peer["ipBlock"] for entry in entries for peer in _peers(entry) if "ipBlock" in peer):
            whole = ipaddress.ip_network(block["cidr"])
            excluded = [ipaddress.ip_network(one) for one in block.get("except", ())]
            for one in excluded:
                if one.version != whole.version or not one.subnet_of(whole):  # type: ignore[arg-type]
                    yield f"{one} is no part of {whole}: the API server refuses it"
            for private in PRIVATE if str(whole) == "0.0.0.0/0" else ():
                if ipaddress.ip_network(private) not in excluded:
                    yield f"NetworkPolicy {policy['metadata']['name']} lets {private} through"


@rule("inward")
def inward(shipped: Shipped) -> Iterator[str]:
    """Nobody but monitoring opens a connection to us, and that to the port with the metrics."""
    opened = [
        (peer, entry)
        for policy in shipped.of("NetworkPolicy")
        for entry in policy["spec"].get("ingress") or ()
        for peer in _peers(entry)
    ]
    for peer, _ in opened:
        if (peer.get("namespaceSelector") or {}).get("matchLabels", {}).get(NAMESPACE) != "monitoring":
            yield "a NetworkPolicy lets others than monitoring in"
    if shipped.of("PodMonitor") and not opened:
        yield "Prometheus can't reach the worker"


def _peers(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return list(entry.get("to", entry.get("from")) or ())


def _egress(shipped: Shipped, maker: PodMaker) -> Iterator[tuple[dict[str, Any], set[tuple[object, str]]]]:
    for policy in shipped.of("NetworkPolicy"):
        if matches(policy["spec"].get("podSelector"), maker.labels) and "Egress" in policy["spec"]["policyTypes"]:
            for entry in policy["spec"].get("egress") or ():
                ports = {(port.get("port"), port.get("protocol", "TCP")) for port in entry.get("ports", ())}
                for peer in _peers(entry):
                    yield peer, ports


def _to(peer: dict[str, Any], namespace: str, key: str, value: str) -> bool:
    spaces = (peer.get("namespaceSelector") or {}).get("matchLabels", {})
    pods = peer.get("podSelector", {}).get("matchLabels")
    return bool(spaces == {NAMESPACE: namespace} and pods == {key: value})


def _servers(shipped: Shipped) -> set[tuple[str, int]]:
    files = shipped.the("ConfigMap", "followers-config")["data"]
    urls = {url for text in files.values() for url in tomllib.loads(text)["nats"]["servers"]}
    return {(str(urlsplit(url).hostname), urlsplit(url).port or 4222) for url in urls}
