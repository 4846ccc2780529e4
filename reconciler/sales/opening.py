"""Where the shop is to be open, read out of the records: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.kinds import identity_keys
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef


@dataclass(frozen=True, slots=True)
class Opening:
    """A gateway that a Network declares, and the Identity whose key answers there."""

    network: str
    listen: str
    base: str
    identity: str
    key: str
    most: int | None = None


def openings(records: Mapping[ResourceRef, Record]) -> tuple[list[Opening], list[Refused]]:
    """Every gateway that can be opened, and why another one cannot (yet)."""
    found, faults = [], []
    for ref, record in sorted(records.items()):
        if ref.kind != "Network" or record.retiring:
            continue
        gateway = (record.body.get("spec") or {}).get("gateway") or {}
        if not gateway.get("listen"):
            continue
        try:
            found.append(_opening(ref.name, gateway, records))
        except Refused as error:
            faults.append(error)
    return found, faults


def _opening(network: str, gateway: Mapping[str, Json], records: Mapping[ResourceRef, Record]) -> Opening:
    names = sorted(_sellers(network, records))
    if len(names) != 1:
        who = " and ".join(names)
        told = f"cannot open the gateway of Network/{network}: " + (f"{who} sell there" if who else "nobody sells there yet")
        hint = "a gateway speaks with one key: give each Identity a Network of its own" if who else "publish a Dataset on it"
        raise Refused("gateway-closed", told, hint=hint)
    outputs = records[ResourceRef("Identity", names[0])].outputs
    base = str(gateway.get("publicUrl") or f"http://{gateway['listen']}").rstrip("/")
    return Opening(
        network, gateway["listen"], base, names[0], identity_keys.current(names[0], outputs), gateway.get("maxClients")
    )


def _sellers(network: str, records: Mapping[ResourceRef, Record]) -> set[str]:
    """Identities with a key that published a dataset on the network."""
    specs = [record.body.get("spec") or {} for ref, record in records.items() if ref.kind == "Dataset" and not record.retiring]
    names = {str(spec["identityRef"]) for spec in specs if spec.get("networkRef") == network and spec.get("identityRef")}
    known = ((name, records.get(ResourceRef("Identity", name))) for name in names)
    return {name for name, record in known if record is not None and record.outputs.get("publicKey")}
