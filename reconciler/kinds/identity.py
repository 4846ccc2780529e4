"""Identity: who acts. A key made once, and a signed profile that anyone can look up by that key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.controller import Outputs, Steps, ask
from reconciler.kinds import document as documents
from reconciler.kinds import token as tokens
from reconciler.kinds.network import net_of
from reconciler.model.canonical import Json
from reconciler.model.change import Change, Cost, FieldDelta, Verb
from reconciler.model.effect import Generate
from reconciler.model.observation import Absent, Observation, Present, Unknown
from reconciler.model.record import Record
from reconciler.model.resource import Resource
from reconciler.ports import Reads
from reconciler.wire import descriptor

# Spec fields that are the profile; keys, secrets and buyer budgets are nobody's business.
PROFILE = ("displayName", "description", "contact", "capabilities", "regions", "roles")


def profile(name: str, body: Mapping[str, Json], public_key: str) -> dict[str, Json]:
    """The statement an Identity signs about itself."""
    spec = body["spec"]
    said = {key: spec[key] for key in PROFILE if spec.get(key) not in (None, [], {})}
    return {"type": "IdentityProfile", "apiVersion": "overlay.bsv/v1alpha1", "name": name, "publicKey": public_key, **said}


def key_in(body: Mapping[str, Json]) -> str | None:
    """The public key of the Identity a body uses; None while it is only known after apply."""
    exported = body["using"].get(f"Identity/{body['spec']['identityRef']}") or {}
    key = exported.get("publicKey")
    return key if isinstance(key, str) else None


class IdentityController:
    """The key and, when `register` is set, the profile document and its descriptor token."""

    kind = "Identity"
    stage = 1
    immutable: tuple[str, ...] = ()
    lasting = ("publicKey",)

    def references(self, spec: Mapping[str, Json]) -> Sequence[tuple[str, str, str]]:
        """The network on which the profile is registered; defaults are inherited at load and are no dependency."""
        name = spec.get("networkRef")
        return (("/networkRef", "Network", name),) if name and spec.get("register") else ()

    def content(self, spec: Mapping[str, Json]) -> Sequence[str]:
        """No files."""
        return ()

    def check(self, want: Resource) -> Sequence[tuple[str, str]]:
        """Subkeys are named once; a key that is never generated must come from somewhere."""
        names = [subkey["name"] for subkey in want.spec.get("subkeys") or ()]
        return [(f"/subkeys/{i}", f'two subkeys are called "{n}"') for i, n in enumerate(names) if n in names[:i]]

    def exports(self, body: Mapping[str, Json], outputs: Outputs | None) -> Mapping[str, Json] | None:
        """The public key, once there is one."""
        return {"publicKey": outputs["publicKey"]} if outputs and outputs.get("publicKey") else None

    def diff(self, body: Mapping[str, Json], was: Record, seen: Present) -> Sequence[FieldDelta]:
        """Hosts that lost the profile token, and storage hosts that lost the document."""
        named = {was.outputs["document"]["digest"]: "profile"} if was.outputs.get("document") else {}
        return [*tokens.token_drift(seen), *documents.replica_drift(seen, named)]

    def estimate(self, change: Change) -> tuple[Cost, tuple[int, ...]]:
        """One transaction when the profile is new, changed, withdrawn or lost; a key alone is free."""
        if change.verb is Verb.DELETE and change.before is not None:
            spend = tokens.survivors(change)
            return tokens.price(net_of(change.before.body), change, (), spend) if spend else (Cost(), ())
        if change.verb is Verb.REPAIR:
            return Cost(), ()
        public_key = change.before.outputs["publicKey"] if change.before else None
        if not change.body["spec"].get("register"):
            spend = tokens.survivors(change)
            return tokens.price(net_of(change.before.body), change, (), spend) if spend and change.before else (Cost(), ())
        net = net_of(change.body)
        tokens.stay_on_chain(net, change)
        documents.document_hosts(str(change.ref), net)
        old = change.before.outputs.get("document") if change.before else None
        if public_key and tokens.survivors(change):
            core = profile(change.ref.name, change.body, public_key)
            if not documents.fresh(core, old):
                return Cost(), ()
        make = (documents.anchor(change.ref.name, public_key, str(change.ref), None, 1 + (old["sequence"] if old else 0)),)
        return tokens.price(net, change, make, tokens.survivors(change))

    async def observe(self, want: Resource | None, was: Record | None, reads: Reads) -> Observation:
        """The recorded token and document as hosts show them; without a record, whether our key already has a profile."""
        if was is None:
            return await self._unrecorded(want, reads)
        if not reads.wallet.exists(was.ref.name):
            return Unknown(f"the key of {was.ref} cannot be read: restore it before anything else")
        if not was.outputs.get("tokens"):
            return Present()
        net = net_of(was.body)
        query = {descriptor.SERVICE: {"identityKey": was.outputs["publicKey"]}}
        seen = await tokens.observe_tokens(was.outputs["tokens"], query, net, reads)
        if not isinstance(seen, Present):
            return seen
        replicas = await documents.observe_replicas(was.outputs.get("replicas") or {}, net, reads)
        return Present({**seen.attributes, "replicas": replicas})

    async def _unrecorded(self, want: Resource | None, reads: Reads) -> Observation:
        # Before any first spend the network is asked, so that a lost ledger does not pay twice.
        if want is None or not want.spec.get("register") or not reads.wallet.exists(want.ref.name):
            return Absent("no key yet")
        return await tokens.unrecorded(want, reads.wallet.public_key(want.ref.name), reads)

    def apply(self, change: Change) -> Steps[Outputs]:
        """Make the key, sign the profile, keep copies of it, anchor its hash."""
        before: Mapping[str, Any] = change.before.outputs if change.before else {}
        spec = change.body["spec"]
        names = [subkey["name"] for subkey in spec.get("subkeys") or ()]
        key = yield from ask(Generate(change.ref.name, {**spec["key"], "subkeys": names}))
        outputs = {"publicKey": key["publicKey"], "subkeys": key["subkeys"]}
        if not spec.get("register"):
            yield from self._withdraw(change)
            return {**outputs, "document": None, "tokens": [], "replicas": {}}
        net = net_of(change.body)
        if change.verb is Verb.REPAIR:
            yield from tokens.resend(net, tokens.lost(change))
            held = yield from documents.rekeep(change, net, before["document"])
            return {**before, "replicas": documents.merge(before["replicas"], held)}
        core, live = profile(change.ref.name, change.body, key["publicKey"]), tokens.survivors(change)
        old = before.get("document")
        if live and not documents.fresh(core, old):
            return {**before, **outputs}
        document = yield from documents.seal(change.ref.name, core, old, live[0]["outpoint"] if live else None)
        held = yield from documents.keep(str(change.ref), net, document)
        wanted = documents.anchor(change.ref.name, key["publicKey"], str(change.ref), document, document["sequence"])
        made = yield from tokens.publish(net, change, (wanted,), live)
        return {**outputs, "document": document, "tokens": made, "replicas": held}

    def _withdraw(self, change: Change) -> Steps[None]:
        live = tokens.survivors(change)
        if live and change.before is not None:
            yield from tokens.publish(net_of(change.before.body), change, (), live)

    def delete(self, change: Change) -> Steps[None]:
        """Retire the profile token. The key stays: it may own more than this ledger knows."""
        yield from self._withdraw(change)


CONTROLLER = IdentityController()
