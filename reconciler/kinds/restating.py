"""What the document of each kind states, and bodies made to say what a document says.

Pure. A record whose body says something else than what was published would hide a difference for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reconciler.kinds import advertisement, audit, dataset, identity, identity_keys
from reconciler.kinds import document as documents
from reconciler.kinds.network import net_of
from reconciler.model.canonical import Json, digest
from reconciler.model.errors import Refused
from reconciler.model.ref import ResourceRef

Body = Mapping[str, Any]
# The name of a price that a document states and no manifest names any more.
_UNNAMED = "no-longer-declared"


def restated(ref: ResourceRef, body: Body, core: Mapping[str, Any], key: str, kept: Sequence[identity_keys.Key]) -> Body:
    """The body as far as it has to be another to say what the document says."""

    def states(body: Body) -> bool:
        return digest(_statement(ref, ref.name, body, key, kept)) == digest(core)

    if states(body):
        return body
    body = KINDS[ref.kind][1](body, core)
    if states(body):
        return body
    hint = f"retire it (reconciler destroy --target {ref}) with the program that made it"
    raise Refused("cannot-restate", f"cannot adopt {ref}: its document says what no manifest can say", hint=hint)


def _statement(ref: ResourceRef, name: str, body: Body, key: str, kept: Sequence[identity_keys.Key]) -> Mapping[str, Json]:
    return identity.profile(name, body, key, list(kept)) if ref.kind == "Identity" else KINDS[ref.kind][0](name, body, key)


def says(ref: ResourceRef, body: Body, outputs: Mapping[str, Any]) -> bool:
    """Whether the document on record states what this body does; of what has none, that it cannot say otherwise.

    Of a kind that is not ours nobody can tell, so it does not.
    """
    if ref.kind not in KINDS:
        return not outputs
    document, key = outputs.get("document"), outputs.get("publicKey") or identity.key_in(body)
    if document is None or key is None:
        return document is None
    said = _statement(ref, documents.published_as(ref, outputs).name, body, key, outputs.get("keys") or ())
    return bool(digest(said) == document["content"])


# --- kind by kind -----------------------------------------------------------------------------------------


def _said(spec: Mapping[str, Json], names: Sequence[str], core: Mapping[str, Json]) -> dict[str, Json]:
    """The spec with these fields as the document has them; what neither has stays as it is."""
    out = dict(spec)
    for name in names:
        if name in core:
            out[name] = core[name]
        elif spec.get(name) not in (None, [], {}):
            del out[name]
    return out


def _priced(spec: dict[str, Json], using: Mapping[str, Json], price: Json) -> dict[str, Json]:
    """`using` with the price that a document states; the spec is made to name it."""
    ref, rest = spec.get("pricePlanRef"), dict(using)
    if price is None:
        rest.pop(f"PricePlan/{spec.pop('pricePlanRef', None)}", None)
    elif ref is None:
        spec["pricePlanRef"] = _UNNAMED
        rest[f"PricePlan/{_UNNAMED}"] = price
    else:
        rest[f"PricePlan/{ref}"] = price
    return rest


def _as_identity(body: Body, core: Mapping[str, Json]) -> Body:
    return {**body, "spec": _said(body["spec"], identity.PROFILE, core)}


def _as_audit(body: Body, core: Mapping[str, Json]) -> Body:
    return {**body, "spec": {**body["spec"], **{name: core[name] for name in audit.STATED if name in core}}}


def _as_advertisement(body: Body, core: Mapping[str, Any]) -> Body:
    spec = _said(body["spec"], advertisement.TERMS, core)
    offers = [dict(zip(("kind", "name"), offer.split("/", 1), strict=True)) for offer in core.get("offers") or ()]
    if offers != [dict(item) for item in spec.get("for") or ()]:
        spec["for"] = offers
    using = _priced(spec, body["using"], core.get("price"))
    net, place = net_of(body), f"Network/{spec['networkRef']}"
    if core.get("url") != net.public_url:
        using[place] = {**using[place], "gateway": {**(using[place].get("gateway") or {}), "publicUrl": core.get("url") or ""}}
    return {**body, "spec": spec, "using": using}


def _as_dataset(body: Body, core: Mapping[str, Any]) -> Body:
    spec = _said(body["spec"], dataset.SAID, core)
    price: Any = core.get("price")
    own = isinstance(price, Mapping) and set(price) == {"model", "rate"} and price["model"] == "per-item"
    if own and not spec.get("pricePlanRef"):
        spec["price"], using = price["rate"], dict(body["using"])
    else:
        spec.pop("price", None)
        using = _priced(spec, body["using"], price)
    files = body["files"]
    if dataset.entries({"spec": spec, "files": files}) != core.get("files"):
        facts = [(f["path"], f["size"], f["sha256"], f["mediaType"]) for f in core.get("files") or ()]
        files = [{"path": p, "size": s, "sha256": h, "media_type": m, "details": {}} for p, s, h, m in facts]
    restated = {**body, "spec": spec, "files": files, "using": using}
    text = dataset.describe(restated) if spec.get("describe") == "auto" else spec.get("description")
    if text != core.get("description"):
        spec.pop("describe", None)
        spec.pop("description", None)
        spec |= {"description": core["description"]} if core.get("description") else {}
    return restated


def _service(name: str, body: Body, key: str) -> Mapping[str, Json]:
    return advertisement.service(name, body, key, net_of(body))


Stated = Callable[[str, Body, str], Mapping[str, Json]]
Restated = Callable[[Body, Mapping[str, Any]], Body]
# What the document of a kind states, and how a body is made to say what a document states.
KINDS: Mapping[str, tuple[Stated, Restated]] = {
    "Identity": (identity.profile, _as_identity),
    "Advertisement": (_service, _as_advertisement),
    "Dataset": (dataset.manifest, _as_dataset),
    audit.KIND: (audit.statement, _as_audit),
}
