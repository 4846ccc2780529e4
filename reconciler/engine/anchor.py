"""When the head of our history is anchored anew: declared beside the manifests, and from there on a resource like any other.

Due is what nobody has anchored for as long as the settings allow, so the moment follows from the ledger and not from when
somebody looked; the anchoring's own entries do not count, or a quiet ledger would pay every day to say that it has paid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reconciler.kinds.audit import KIND
from reconciler.manifest.load import Loaded
from reconciler.model.audit import AuditPolicy
from reconciler.model.canonical import Json
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.ref import Position, ResourceRef
from reconciler.model.resource import DesiredState, Lifecycle, Prune, Resource
from reconciler.ports import Ports

# Where the settings stand, for whoever is told of a fault in them.
SETTINGS = "reconciler.yaml"


def subject(environment: str) -> ResourceRef:
    """The resource that stands for the head of an environment's history."""
    return ResourceRef(KIND, environment or "default")


def declare(loaded: Loaded, policy: AuditPolicy | None, ports: Ports) -> Loaded:
    """The manifests and, where the settings ask for it, the head to be anchored: the one on record, or a new one once due."""
    desired = loaded.desired
    if policy is None or desired is None:
        return loaded
    identity = desired.resources.get(ResourceRef("Identity", policy.identity))
    network = _network(identity, desired)
    if identity is None or network is None:
        return _faulty(loaded, policy, "declared" if identity is None else "on a Network")
    ref = subject(desired.environment)
    head = _head(ref, policy, ports)
    if head is None:
        return loaded
    spec = {"identityRef": policy.identity, "networkRef": network, **head}
    resource = Resource(
        ref=ref,
        spec=spec,
        at=Position(SETTINGS, 1, 1, "/audit"),
        requires=frozenset({identity.ref, ResourceRef("Network", network)}),
        lifecycle=Lifecycle(prune=Prune.AUTO, max_spend=policy.max_spend),
    )
    return replace(loaded, desired=replace(desired, resources={**desired.resources, ref: resource}))


def _head(ref: ResourceRef, policy: AuditPolicy, ports: Ports) -> Mapping[str, Json] | None:
    """What the document is to state; None while there is nothing to state."""
    with ports.ledger.begin() as tx:
        record = tx.record(ref)
        known = record.body["spec"] if record is not None else None
        since = tx.unanchored_since(known["entries"] if known else 0, ref)
        head = tx.audit_head()
    if since is None or ports.clock.now() - since < policy.every:
        return {name: known[name] for name in ("lineage", "entries", "head")} if known else None
    return {"lineage": head.lineage, "entries": head.entries, "head": head.digest}


def _network(identity: Resource | None, desired: DesiredState) -> str | None:
    """Where the identity registers, or else the only network there is."""
    if identity is None:
        return None
    named = identity.spec.get("networkRef")
    known = [ref.name for ref in desired.resources if ref.kind == "Network"]
    if isinstance(named, str):
        return named
    return known[0] if len(known) == 1 else None


def _faulty(loaded: Loaded, policy: AuditPolicy, lacks: str) -> Loaded:
    message = f"audit.identity names Identity/{policy.identity}, which is not {lacks}"
    hint = "declare it, or name another one in the settings"
    fault = Diagnostic(Severity.ERROR, "E0312", message, Position(SETTINGS, 1, 1, "/audit/identity"), hint=hint)
    return replace(loaded, desired=None, diagnostics=(*loaded.diagnostics, fault))
