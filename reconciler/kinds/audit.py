"""Audit: the head of our history, anchored. No manifest declares it; the settings do, and the engine says when it is due.

It goes through plan and run like every resource: it is priced, guarded, journaled, repaired and retired by the same rules.
Its document states how many entries the chain has and the digest of the last one, signed by the Identity that the settings
name; a descriptor token anchors it under the subject `Audit/<environment>`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reconciler.controller import Outputs, Steps
from reconciler.kinds import identity_keys
from reconciler.kinds.identity import key_in, signer_in
from reconciler.kinds.later import later
from reconciler.kinds.network import net_of
from reconciler.model.canonical import Json
from reconciler.model.change import Change, Cost, FieldDelta, Verb
from reconciler.model.errors import Refused
from reconciler.model.observation import Absent, Observation, Present
from reconciler.model.record import Record
from reconciler.model.resource import Resource

if TYPE_CHECKING:
    from reconciler.kinds import document as documents
    from reconciler.kinds import token as tokens
    from reconciler.ports import Reads
    from reconciler.wire import auditlog, descriptor
else:
    documents = later("reconciler.kinds.document")
    tokens = later("reconciler.kinds.token")
    auditlog = later("reconciler.wire.auditlog")
    descriptor = later("reconciler.wire.descriptor")

KIND = "Audit"
# Spec fields that the document states.
STATED = ("lineage", "entries", "head")


def statement(name: str, body: Mapping[str, Json], public_key: str) -> dict[str, Json]:
    """What is signed about the head of the chain."""
    said = {field: body["spec"][field] for field in STATED}
    return {
        "type": auditlog.HEAD_TYPE,
        "apiVersion": "overlay.bsv/v1alpha1",
        "name": name,
        "publicKey": public_key,
        **said,
    }


class AuditController:
    """A signed document and its descriptor token, renewed as history grows."""

    kind = KIND
    stage = 9
    immutable: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()

    def references(self, spec: Mapping[str, Json]) -> Sequence[tuple[str, str, str]]:
        """Who signs, and where it is anchored."""
        return (("/identityRef", "Identity", spec["identityRef"]), ("/networkRef", "Network", spec["networkRef"]))

    def content(self, spec: Mapping[str, Json]) -> Sequence[str]:
        """No files."""
        return ()

    def check(self, want: Resource) -> Sequence[tuple[str, str]]:
        """Nothing: no person writes it."""
        return ()

    def exports(self, body: Mapping[str, Json], outputs: Outputs | None) -> Mapping[str, Json] | None:
        """Where the head is anchored."""
        return {"outpoint": outputs["tokens"][0]["outpoint"]} if outputs and outputs.get("tokens") else None

    def diff(self, body: Mapping[str, Json], was: Record, seen: Present) -> Sequence[FieldDelta]:
        """Hosts that lost the token or the document."""
        return [*tokens.token_drift(seen), *documents.copy_drift(was, seen, net_of(was.body), "head")]

    def estimate(self, change: Change) -> tuple[Cost, tuple[int, ...]]:
        """One transaction, that replaces the token of the head before."""
        if change.verb is Verb.DELETE and change.before is not None:
            spend = tokens.survivors(change)
            return tokens.price(net_of(change.before.body), change, (), spend) if spend else (Cost(), ())
        net = net_of(change.body)
        if change.verb is Verb.REPAIR:
            return documents.upkeep_cost(change, net), ()
        tokens.stay_on_chain(net, change)
        documents.document_hosts(str(change.ref), net)
        old, public_key = change.before.outputs.get("document") if change.before else None, key_in(change.body)
        if (
            public_key
            and tokens.survivors(change)
            and not documents.fresh(statement(change.ref.name, change.body, public_key), old)
        ):
            return documents.upkeep_cost(change, net), ()
        make = self._anchor(change, public_key, None, 1 + (old["sequence"] if old else 0))
        cost, needs = tokens.price(net, change, (make,), tokens.survivors(change))
        return cost + documents.keep_cost(str(change.ref), net), needs

    async def observe(self, want: Resource | None, was: Record | None, reads: Reads) -> Observation:
        """The recorded token and document as hosts show them; without a record, whether our key has anchored one before."""
        if was is None:
            keys = identity_keys.signers(want.spec["identityRef"], reads) if want is not None else {}
            if want is None or not keys:
                return Absent("no key yet")
            first, *others = keys
            return await tokens.unrecorded(want, first, reads, identity_keys.questions(others, str(want.ref)))
        net = net_of(was.body)
        query = {descriptor.SERVICE: {"identityKey": key_in(was.body), "subject": str(was.ref)}}
        return await documents.observed(was, query, net, reads)

    def apply(self, change: Change) -> Steps[Outputs]:
        """Sign the head, keep copies of the document, anchor its hash."""
        before: Mapping[str, Any] = change.before.outputs if change.before else {}
        net, owner = net_of(change.body), signer_in(change.body)
        if change.verb is Verb.REPAIR:
            yield from tokens.resend(net, tokens.lost(change))
            return (yield from documents.upkeep(change, net))
        public_key = key_in(change.body)
        if public_key is None:
            raise Refused("no-key", f"cannot sign {change.ref}: Identity/{owner} has no key yet", hint="apply the Identity first")
        live, old = tokens.survivors(change), before.get("document")
        core = statement(change.ref.name, change.body, public_key)
        if live and not documents.fresh(core, old):
            return (yield from documents.upkeep(change, net))
        document = yield from documents.seal(owner, core, old, live[0]["outpoint"] if live else None)
        held = yield from documents.keep(str(change.ref), net, document)
        made = yield from tokens.publish(net, change, (self._anchor(change, public_key, document, document["sequence"]),), live)
        return {"document": document, "tokens": made, "replicas": held}

    def _anchor(
        self, change: Change, public_key: str | None, document: documents.Document | None, sequence: int
    ) -> tokens.Wanted:
        return documents.anchor(signer_in(change.body), public_key, str(change.ref), document, sequence)

    def delete(self, change: Change) -> Steps[None]:
        """Retire the token; what it once proved stays proven by whoever kept the proof."""
        live = tokens.survivors(change)
        if live and change.before is not None:
            yield from tokens.publish(net_of(change.before.body), change, (), live)


# Not called CONTROLLER: kinds are what manifests may declare, and they find themselves by that name.
AUDIT = AuditController()
