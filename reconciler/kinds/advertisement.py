"""Advertisement: a service offered. SHIP and SLAP tokens (BRC-88), and the signed service document they cannot carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reconciler.controller import Outputs, Steps
from reconciler.kinds import identity_keys
from reconciler.kinds.identity import key_in, signer_in
from reconciler.kinds.later import later
from reconciler.kinds.network import Net, aimed, net_of, read_net
from reconciler.model.canonical import Json
from reconciler.model.change import Change, Cost, FieldDelta, Verb
from reconciler.model.errors import Refused
from reconciler.model.observation import Absent, Observation, Present
from reconciler.model.record import Record
from reconciler.model.resource import Resource
from reconciler.wire import names

if TYPE_CHECKING:
    from reconciler.kinds import document as documents
    from reconciler.kinds import lookups, rent
    from reconciler.kinds import token as tokens
    from reconciler.ports import Reads
    from reconciler.wire import advert, descriptor, keys
else:
    documents = later("reconciler.kinds.document")
    tokens = later("reconciler.kinds.token")
    lookups = later("reconciler.kinds.lookups")
    rent = later("reconciler.kinds.rent")
    keys = later("reconciler.wire.keys")
    advert = later("reconciler.wire.advert")
    descriptor = later("reconciler.wire.descriptor")

# Spec fields that the service document repeats word for word.
TERMS = ("serviceType", "capability", "maxConsumers", "availability", "regions", "ttl", "ship", "slap")
_ADMITTED = {"SHIP": ("tm_ship", "ls_ship"), "SLAP": ("tm_slap", "ls_slap")}


def service(name: str, body: Mapping[str, Json], public_key: str, net: Net) -> dict[str, Json]:
    """The statement an Advertisement signs: what is offered, where, on which terms."""
    spec = body["spec"]
    said = {key: spec[key] for key in TERMS if spec.get(key) not in (None, [], {})}
    plan = body["using"].get(f"PricePlan/{spec.get('pricePlanRef')}")
    return {
        "type": "ServiceDocument",
        "apiVersion": "overlay.bsv/v1alpha1",
        "name": name,
        "provider": public_key,
        "url": net.public_url,
        "offers": [f"{item['kind']}/{item['name']}" for item in spec.get("for") or ()],
        **({"price": plan} if plan else {}),
        **said,
    }


def adverts(body: Mapping[str, Json], public_key: str | None, net: Net) -> list[tokens.Wanted]:
    """The SHIP and SLAP tokens the spec asks for, all at the network's public URL."""
    spec, owner = body["spec"], signer_in(body)
    fault = names.advertisable(net.public_url)
    if fault and (spec.get("ship") or spec.get("slap")):
        hint = "set gateway.publicUrl on the Network"
        raise Refused("not-advertisable", f'cannot advertise "{net.public_url}": {fault}', hint=hint)
    identity = bytes.fromhex(public_key) if public_key else keys.ANYONE
    wanted = []
    for type_, topics in (("SHIP", spec.get("ship") or ()), ("SLAP", spec.get("slap") or ())):
        protocol, key_id = advert.lock_of(type_)
        for name in topics:
            fields = advert.fields(advert.Advert(type_, identity, net.public_url, name))
            wanted.append(tokens.Wanted(type_, name, *_ADMITTED[type_], fields, protocol, key_id, owner))
    return wanted


class AdvertisementController:
    """Tokens that say where, and a document that says what and for how much."""

    kind = "Advertisement"
    stage = 6
    immutable = ("spec.identityRef", "spec.networkRef", "spec.hosts")
    lasting: tuple[str, ...] = ()

    def references(self, spec: Mapping[str, Json]) -> Sequence[tuple[str, str, str]]:
        """Who offers, where, at what price, and what is offered (never announce what cannot be served)."""
        found = [(f"/{key}", kind, spec[key]) for key, kind in _REFS if spec.get(key)]
        return [*found, *((f"/for/{i}/name", item["kind"], item["name"]) for i, item in enumerate(spec.get("for") or ()))]

    def content(self, spec: Mapping[str, Json]) -> Sequence[str]:
        """No files."""
        return ()

    def check(self, want: Resource) -> Sequence[tuple[str, str]]:
        """Names are topics and services of BRC-87, each once."""
        faults = []
        for key, prefix in (("ship", "tm_"), ("slap", "ls_")):
            listed = want.spec.get(key) or []
            for index, name in enumerate(listed):
                if not names.name_ok(name) or not name.startswith(prefix):
                    faults.append((f"/{key}/{index}", f'"{name}" is not a legal name: {prefix} and lower-case words joined by _'))
                elif name in listed[:index]:
                    faults.append((f"/{key}/{index}", f'"{name}" is listed twice'))
        return faults

    def exports(self, body: Mapping[str, Json], outputs: Outputs | None) -> Mapping[str, Json] | None:
        """Nothing that changes: dependents only wait for it."""
        return {}

    def diff(self, body: Mapping[str, Json], was: Record, seen: Present) -> Sequence[FieldDelta]:
        """Hosts that lost a token, and storage hosts that lost the document."""
        return [
            *documents.renamed(was),
            *tokens.token_drift(seen),
            *documents.copy_drift(was, seen, net_of(was.body), "document"),
        ]

    def _transaction(
        self, change: Change, net: Net, public_key: str | None, document: documents.Document | None
    ) -> tuple[list[tokens.Wanted], list[tokens.Token], list[tokens.Token]]:
        """(tokens to make, tokens to spend, tokens that stay) for the wanted set; `document` None means not yet sealed."""
        wanted, live = adverts(change.body, public_key, net), tokens.survivors(change)
        before: Mapping[str, Any] = change.before.outputs if change.before else {}
        same_key = change.before is not None and before.get("publicKey") == public_key and not tokens.anew(change)
        domain = before.get("domain")
        old = before.get("document")
        core = service(change.ref.name, change.body, public_key or "", net)
        stays, make = [], []
        for one in wanted:
            match = [t for t in live if (t["type"], t["name"]) == (one.type, one.name) and same_key and domain == net.public_url]
            if match:
                stays += match
            else:
                make.append(one)
        anchored = [t for t in live if t["type"] == "DESCRIPTOR"]
        if anchored and same_key and not documents.fresh(core, old):
            stays += anchored
        else:
            sequence = document["sequence"] if document else 1 + (old["sequence"] if old else 0)
            make.append(documents.anchor(signer_in(change.body), public_key, str(change.ref), document, sequence))
        kept = {t["outpoint"] for t in stays}
        return make, [t for t in live if t["outpoint"] not in kept], stays

    def estimate(self, change: Change) -> tuple[Cost, tuple[int, ...]]:
        """One transaction for whatever is made and retired together."""
        if change.verb is Verb.REPAIR:
            return documents.upkeep_cost(change, net_of(change.body)), ()
        if change.verb is Verb.DELETE and change.before is not None:
            return tokens.price(_net(change.before.body), change, (), tokens.survivors(change))
        net = _net(change.body)
        tokens.stay_on_chain(net, change)
        _require_hosts(change, net)
        documents.document_hosts(str(change.ref), net)
        make, spend, _ = self._transaction(change, net, key_in(change.body), None)
        cost, needs = tokens.price(net, change, make, spend)
        stands = self._stands(change, net)
        return cost + (documents.upkeep_cost(change, net) if stands else documents.keep_cost(str(change.ref), net)), needs

    def _stands(self, change: Change, net: Net) -> bool:
        """Whether the document on record says what is asked for, so that only its copies need care."""
        key, old = key_in(change.body), change.before.outputs.get("document") if change.before else None
        anchored = any(t["type"] == "DESCRIPTOR" for t in tokens.survivors(change))
        return (
            anchored
            and not tokens.anew(change)
            and not documents.fresh(service(change.ref.name, change.body, key or "", net), old)
        )

    async def observe(self, want: Resource | None, was: Record | None, reads: Reads) -> Observation:
        """Every recorded token on every host, and the document's copies."""
        if was is None:
            keys = identity_keys.signers(want.spec["identityRef"], reads) if want is not None else {}
            if want is None or not keys:
                return Absent("no key yet")
            first, *others = keys
            adverts = [question for key in keys for question in _announced(want, key, reads)]
            more = identity_keys.questions(others, str(want.ref))
            return await tokens.unrecorded(want, first, reads, [*adverts, *more])
        net, owner = _net(was.body), {"identityKey": was.outputs["publicKey"]}
        services = {t["service"] for t in was.outputs["tokens"]} | {descriptor.SERVICE}
        return await documents.observed(was, dict.fromkeys(services, owner), net, reads)

    def apply(self, change: Change) -> Steps[Outputs]:
        """Seal the document where it changed, keep copies, and swap tokens in one transaction."""
        before: Mapping[str, Any] = change.before.outputs if change.before else {}
        net, owner = _net(change.body), signer_in(change.body)
        if change.verb is Verb.REPAIR:
            yield from tokens.resend(net, tokens.lost(change))
            return (yield from documents.upkeep(change, net))
        public_key = key_in(change.body)
        core, old = service(change.ref.name, change.body, public_key or "", net), before.get("document")
        anchored = [t for t in tokens.survivors(change) if t["type"] == "DESCRIPTOR"]
        if self._stands(change, net):
            kept_up = yield from documents.upkeep(change, net)
            document = old
        else:
            document = yield from documents.seal(owner, core, old, anchored[0]["outpoint"] if anchored else None)
            kept_up = {"replicas": (yield from documents.keep(str(change.ref), net, document))}
        make, spend, stays = self._transaction(change, net, public_key, document)
        made = yield from tokens.publish(net, change, make, spend)
        kept = sorted([*stays, *made], key=lambda t: (t["type"], t["name"]))
        outputs = {"publicKey": public_key, "domain": net.public_url, "document": document, "tokens": kept}
        return rent.remembered({**outputs, "replicas": kept_up["replicas"]}, kept_up.get("refusing") or {})

    def delete(self, change: Change) -> Steps[None]:
        """Spend every token in one transaction."""
        if change.before is not None:
            yield from tokens.publish(_net(change.before.body), change, (), tokens.survivors(change))


def _net(body: Mapping[str, Json]) -> Net:
    """The network the body uses, with the hosts it is meant for."""
    return aimed(net_of(body), body["spec"])


def _require_hosts(change: Change, net: Net) -> None:
    """Refused when it is meant for regions in which no host stands."""
    regions = (change.body["spec"].get("hosts") or {}).get("regions")
    if regions and not net.overlays:
        message = f"cannot advertise {change.ref} in {', '.join(regions)}: no overlay host of Network/{net.name} stands there"
        raise Refused("no-host-in-region", message, hint="label a host with that region, or change hosts.regions")


def _announced(want: Resource, key: str, reads: Reads) -> list[lookups.Question]:
    """The SHIP and SLAP tokens it asks for, as questions: a host would not list a second one of the same."""
    spec = reads.networks.get(want.spec.get("networkRef") or "")
    if spec is None:
        return []
    url = read_net(want.spec["networkRef"], spec).public_url
    asked = [("SHIP", name) for name in want.spec.get("ship") or ()] + [("SLAP", name) for name in want.spec.get("slap") or ()]
    return [lookups.of_advert(key, type_, _ADMITTED[type_][1], name, url) for type_, name in asked]


_REFS = (("identityRef", "Identity"), ("networkRef", "Network"), ("pricePlanRef", "PricePlan"))
CONTROLLER = AdvertisementController()
