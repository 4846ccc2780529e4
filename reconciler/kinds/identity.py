"""Identity: who acts. A key made once, and a signed profile that anyone can look up by that key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reconciler.controller import Outputs, Steps, ask
from reconciler.kinds import identity_keys
from reconciler.kinds.later import later
from reconciler.kinds.network import Net, net_of
from reconciler.model.canonical import Json
from reconciler.model.change import Cause, Change, Cost, FieldDelta, Verb
from reconciler.model.observation import Absent, Observation, Present, Unknown
from reconciler.model.record import Record
from reconciler.model.resource import Resource

if TYPE_CHECKING:
    from reconciler.kinds import document as documents
    from reconciler.kinds import token as tokens
    from reconciler.model import effect as effects
    from reconciler.ports import Reads
    from reconciler.wire import descriptor
else:
    documents = later("reconciler.kinds.document")
    tokens = later("reconciler.kinds.token")
    effects = later("reconciler.model.effect")
    descriptor = later("reconciler.wire.descriptor")

# Spec fields that are the profile; keys, secrets and buyer budgets are nobody's business.
PROFILE = ("displayName", "description", "contact", "capabilities", "regions", "roles")


def profile(name: str, body: Mapping[str, Json], public_key: str, kept: list[identity_keys.Key] | None = None) -> dict[str, Json]:
    """The statement an Identity signs about itself; one whose key was replaced says which keys it had."""
    spec = body["spec"]
    said = {key: spec[key] for key in PROFILE if spec.get(key) not in (None, [], {})}
    if kept:
        said["successions"] = identity_keys.successions(kept)
    return {"type": "IdentityProfile", "apiVersion": "overlay.bsv/v1alpha1", "name": name, "publicKey": public_key, **said}


def key_in(body: Mapping[str, Json]) -> str | None:
    """The public key of the Identity a body uses; None while it is only known after apply."""
    exported = body["using"].get(f"Identity/{body['spec']['identityRef']}") or {}
    key = exported.get("publicKey")
    return key if isinstance(key, str) else None


def signer_in(body: Mapping[str, Json]) -> str:
    """The name of the key that signs for a body: that of its Identity, until the key was replaced."""
    exported = body["using"].get(f"Identity/{body['spec']['identityRef']}") or {}
    return str(exported.get("key") or body["spec"]["identityRef"])


class IdentityController:
    """The key and, when `register` is set, the profile document and its descriptor token."""

    kind = "Identity"
    stage = 1
    immutable: tuple[str, ...] = ()
    lasting = ("publicKey", "key")

    def references(self, spec: Mapping[str, Json]) -> Sequence[tuple[str, str, str]]:
        """The network on which the profile is registered; defaults are inherited at load and are no dependency."""
        name = spec.get("networkRef")
        return (("/networkRef", "Network", name),) if name and spec.get("register") else ()

    def content(self, spec: Mapping[str, Json]) -> Sequence[str]:
        """No files."""
        return ()

    def check(self, want: Resource) -> Sequence[tuple[str, str]]:
        """Subkeys are named once; a key that is never generated must come from somewhere; the next key is another one."""
        names = [subkey["name"] for subkey in want.spec.get("subkeys") or ()]
        faults = [(f"/subkeys/{i}", f'two subkeys are called "{n}"') for i, n in enumerate(names) if n in names[:i]]
        heir = identity_keys.following(want.spec)
        if heir is not None and identity_keys.place(heir) == identity_keys.place(want.spec["key"]):
            faults.append(("/rotation/next", "the next key is in the place of the key it follows"))
        agreed = want.spec.get("approvals") or {}
        if agreed and agreed["required"] > len(agreed["keys"]):
            faults.append(("/approvals/required", f"{agreed['required']} of {len(agreed['keys'])} keys can never agree"))
        if heir is not None and "catalog" in (want.spec["rotation"].get("notify") or ()) and not want.spec.get("register"):
            faults.append(
                (
                    "/rotation/notify",
                    "nothing is published of an identity that is not registered: set register, or leave out catalog",
                )
            )
        return faults

    def exports(self, body: Mapping[str, Json], outputs: Outputs | None) -> Mapping[str, Json] | None:
        """The public key, once there is one, and its name when it is not the first; None when this body replaces it."""
        if not outputs or not outputs.get("publicKey") or identity_keys.begins(body["spec"], outputs):
            return None
        name = identity_keys.current("", outputs)
        return {"publicKey": outputs["publicKey"], **({"key": name} if name else {})}

    def diff(self, body: Mapping[str, Json], was: Record, seen: Present) -> Sequence[FieldDelta]:
        """Hosts that lost the profile token, storage hosts that lost the document, and old keys whose time is over."""
        kept = documents.copy_drift(was, seen, net_of(was.body), "profile") if was.outputs.get("document") else ()
        until = {key["name"]: key.get("until") for key in was.outputs.get("keys") or ()}
        ended = [
            FieldDelta(f"keys.{name}", f"honoured until {until[name]}", "retired", Cause.TIME)
            for name in seen.attributes.get("ended") or ()
        ]
        return [*documents.renamed(was), *tokens.token_drift(seen), *kept, *ended]

    def estimate(self, change: Change) -> tuple[Cost, tuple[int, ...]]:
        """One transaction when the profile moves, or a key is replaced or retired; a key alone is free."""
        if change.verb is Verb.DELETE and change.before is not None:
            spend = tokens.survivors(change)
            return tokens.price(net_of(change.before.body), change, (), spend) if spend else (Cost(), ())
        outputs: Mapping[str, Any] = change.before.outputs if change.before else {}
        identity_keys.refuse_return(change.ref.name, change.body["spec"], outputs)
        if change.verb is Verb.REPAIR:
            cost, needs = self._retire_cost(change)
            return cost + self._upkeep_cost(change), needs
        if not change.body["spec"].get("register"):
            spend = tokens.survivors(change)
            return tokens.price(net_of(change.before.body), change, (), spend) if spend and change.before else (Cost(), ())
        net = net_of(change.body)
        tokens.stay_on_chain(net, change)
        documents.document_hosts(str(change.ref), net)
        if self._stands(change, self._expected(change)):
            cost, needs = self._retire_cost(change)
            return cost + self._upkeep_cost(change), needs
        kept, old = self._expected(change), outputs.get("document")
        sequence = 1 + (old["sequence"] if old else 0)
        public_key = None if identity_keys.begins(change.body["spec"], outputs) else outputs.get("publicKey")
        make = self._anchors(change, public_key, kept, None, sequence)
        cost, needs = tokens.price(net, change, make, tokens.survivors(change))
        return cost + documents.keep_cost(str(change.ref), net), needs

    def _expected(self, change: Change) -> list[identity_keys.Key]:
        """The keys as they will be, as far as a price needs to know: how many, and which of them are honoured."""
        return identity_keys.foreseen(change.ref.name, change.body["spec"], change.before.outputs if change.before else {})

    def _anchors(
        self, change: Change, public_key: str | None, kept: list[identity_keys.Key], document: Json, sequence: int
    ) -> list[tokens.Wanted]:
        """The descriptor of the document under the current key, and under every old key that is still honoured."""
        name, subject = change.ref.name, str(change.ref)
        signer = kept[-1]["name"] if kept else name
        old = identity_keys.honoured(kept, change.seen.get("ended") or ())
        return [
            documents.anchor(signer, public_key, subject, document, sequence),
            *(documents.anchor(key["name"], key["publicKey"], subject, document, sequence) for key in old),
        ]

    def _stands(self, change: Change, kept: list[identity_keys.Key] | None) -> bool:
        """Whether the document on record says what is asked for, and the current key's token with it."""
        outputs: Mapping[str, Any] = change.before.outputs if change.before else {}
        live, key = tokens.survivors(change), outputs.get("publicKey")
        if not key or tokens.anew(change) or not any(token["identity"] == key for token in live):
            return False
        if kept and kept[-1].get("publicKey") != key:
            return False
        return not documents.fresh(profile(change.ref.name, change.body, key, kept), outputs.get("document"))

    def _closed(self, change: Change, kept: list[identity_keys.Key]) -> list[tokens.Token]:
        """The tokens of keys that are honoured no longer."""
        if not kept:
            return []
        still = {key["name"] for key in identity_keys.honoured(kept, change.seen.get("ended") or ())} | {kept[-1]["name"]}
        return [token for token in tokens.survivors(change) if token["owner"] not in still]

    def _retire_cost(self, change: Change) -> tuple[Cost, tuple[int, ...]]:
        spend = self._closed(change, self._expected(change))
        return tokens.price(net_of(change.body), change, (), spend) if spend else (Cost(), ())

    def _upkeep_cost(self, change: Change) -> Cost:
        stands = change.before is not None and change.before.outputs.get("document")
        return documents.upkeep_cost(change, net_of(change.body)) if stands else Cost()

    async def observe(self, want: Resource | None, was: Record | None, reads: Reads) -> Observation:
        """The recorded token and document as hosts show them; without a record, whether our key already has a profile."""
        if was is None:
            return await self._unrecorded(want, reads)
        if not reads.wallet.exists(identity_keys.current(was.ref.name, was.outputs)):
            return Unknown(f"the key of {was.ref} cannot be read: restore it before anything else")
        ended = identity_keys.over(was.outputs, reads.clock.now())
        told: dict[str, Json] = {"ended": ended} if ended else {}
        if not was.outputs.get("tokens"):
            return Present(told)
        net = net_of(was.body)
        seen = await self._tokens(was, net, reads)
        if not isinstance(seen, Unknown):
            seen = replace(seen, attributes={**seen.attributes, **told})
        return await documents.with_copies(seen, lambda: documents.copies_of(was, net, reads))

    async def _tokens(self, was: Record, net: Net, reads: Reads) -> Observation:
        """The tokens key by key, the current one's first: whoever lost an old one has only to say so."""
        held: list[tokens.Token] = was.outputs["tokens"]
        own = was.outputs["publicKey"]
        first: Observation = Present({"tokens": {}})
        for key in [own, *sorted({token["identity"] for token in held} - {own})]:
            mine = [token for token in held if token["identity"] == key]
            seen = await tokens.observe_tokens(mine, {descriptor.SERVICE: {"identityKey": key}}, net, reads, was.status.facts)
            if key == own and not isinstance(seen, Present):
                return seen
            if isinstance(seen, Unknown):
                return seen
            assert isinstance(first, Present)
            spent = {**first.attributes.get("spent", {}), **seen.attributes.get("spent", {})}
            view = {**first.attributes["tokens"], **({} if isinstance(seen, Absent) else seen.attributes.get("tokens") or {})}
            first = Present({"tokens": view, **({"spent": spent} if spent else {})})
        return first

    async def _unrecorded(self, want: Resource | None, reads: Reads) -> Observation:
        # Before any first spend the network is asked, so that a lost ledger does not pay twice.
        keys = identity_keys.signers(want.ref.name, reads, ()) if want is not None and want.spec.get("register") else {}
        if want is None or not keys:
            return Absent("no key yet")
        first, *others = keys
        return await tokens.unrecorded(want, first, reads, identity_keys.questions(others, str(want.ref)))

    def apply(self, change: Change) -> Steps[Outputs]:
        """Make the key, sign the profile, keep copies of it, anchor its hash; let one key follow another."""
        before: Mapping[str, Any] = change.before.outputs if change.before else {}
        spec, known = change.body["spec"], identity_keys.ring(change.ref.name, change.body["spec"], before)
        names = [subkey["name"] for subkey in spec.get("subkeys") or ()]
        dated = {"dated": True} if known.replaced or (spec.get("rotation") or {}).get("revoke") else {}
        key = yield from ask(effects.Generate(known.current, {**known.source, "subkeys": names, **dated}))
        kept = yield from identity_keys.succeed(change, known, key)
        outputs = {"publicKey": key["publicKey"], "subkeys": key["subkeys"]}
        if kept:
            outputs["keys"] = identity_keys.retired(kept, change.seen.get("ended") or ())
        if not spec.get("register"):
            yield from self._withdraw(change)
            return {**outputs, "document": None, "tokens": [], "replicas": {}}
        net = net_of(change.body)
        if change.verb is Verb.REPAIR:
            yield from tokens.resend(net, tokens.lost(change))
        if change.verb is Verb.REPAIR or self._stands(change, kept):
            return {**(yield from documents.upkeep(change, net)), **outputs, **(yield from self._retire(change, net, kept))}
        core, live, old = (
            profile(change.ref.name, change.body, key["publicKey"], kept),
            tokens.survivors(change),
            before.get("document"),
        )
        document = yield from documents.seal(known.current, core, old, live[0]["outpoint"] if live else None)
        held = yield from documents.keep(str(change.ref), net, document)
        wanted = self._anchors(change, key["publicKey"], kept, document, document["sequence"])
        made = yield from tokens.publish(net, change, wanted, live)
        return {**outputs, "document": document, "tokens": made, "replicas": held}

    def _retire(self, change: Change, net: Net, kept: list[identity_keys.Key]) -> Steps[dict[str, Json]]:
        """Spend the tokens of keys whose time is over. The keys stay where they are: something may still be encrypted to them."""
        gone = self._closed(change, kept)
        if not gone:
            return {}
        yield from tokens.publish(net, change, (), gone)
        spent = {token["outpoint"] for token in gone}
        return {"tokens": [token for token in tokens.survivors(change) if token["outpoint"] not in spent]}

    def _withdraw(self, change: Change) -> Steps[None]:
        live = tokens.survivors(change)
        if live and change.before is not None:
            yield from tokens.publish(net_of(change.before.body), change, (), live)

    def delete(self, change: Change) -> Steps[None]:
        """Retire the profile token. The key stays: it may own more than this ledger knows."""
        yield from self._withdraw(change)


CONTROLLER = IdentityController()
