"""The published client at a door that wants certificates for some of its rooms only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Scope

from reconciler.gateway.certificates import Required
from reconciler.kinds.network import read_net
from reconciler.model.endpoint import Endpoint
from reconciler.model.ref import Outpoint
from reconciler.wire import keys
from tests.conformance.parties import opened, party
from tests.interop.lab import Lab, script

pytestmark = pytest.mark.slow
TYPE = "AQ" * 21 + "E="
CERTIFIER = keys.public_key(keys.sha256(b"certifier")).hex()
POLICY = {"require": {"certificates": [{"type": TYPE, "certifiers": [CERTIFIER], "fields": ["name"]}]}}

# A subject with one certificate, by the certifier that is asked for or by another; one request. Keys are hashes of words.
CLIENT = """
import { createHash } from 'node:crypto'
import { AuthFetch, MasterCertificate, PrivateKey, ProtoWallet } from '@bsv/sdk'
const [url, type, word] = process.argv.slice(1)
const walletOf = (text) => new ProtoWallet(new PrivateKey(createHash('sha256').update(text).digest('hex'), 'hex'))
const [certifier, wallet] = [walletOf(word), walletOf('subject')]
const { publicKey: subject } = await wallet.getPublicKey({ identityKey: true })
const never = async () => '00'.repeat(32) + '.0'
const master = await MasterCertificate.issueCertificateForSubject(certifier, subject, { name: 'Zoë', age_: '17' }, type, never)
const mine = (asked) => asked.certifiers.includes(master.certifier)
wallet.listCertificates = async (asked) => ({ certificates: mine(asked) ? [master] : [] })
wallet.proveCertificate = async ({ fieldsToReveal, verifier }) => ({
  keyringForVerifier: await MasterCertificate.createKeyringForVerifier(
    wallet, master.certifier, verifier, master.fields, fieldsToReveal, master.masterKeyring, master.serialNumber)
})
const answer = await new AuthFetch(wallet).fetch(url)
console.log(JSON.stringify({ status: answer.status, body: await answer.text(), subject }))
process.exit(0)
"""


class Unspent:
    """An index of spends in which there are none."""

    async def spender(self, outpoint: Outpoint, source: Endpoint) -> str | None:
        return None


class Gated(Required):
    """The echo is held to the policy of a content."""

    def lacking(self, scope: Scope, body: bytes, shown: Sequence[Any]) -> str:
        return super().lacking({**scope, "path": f"/content{scope['path']}"}, body, shown)


@pytest.mark.row("C-18")
@pytest.mark.parametrize(
    ("rooms", "word", "status"), [(Gated, "certifier", 200), (Gated, "impostor", 408), (Required, "impostor", 200)]
)
def test_their_client_gets_where_its_certificates_lead(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rooms: type[Required], word: str, status: int
) -> None:
    monkeypatch.setattr("reconciler.gateway.auth.CERTIFICATES_WITHIN", 1.0 if status == 408 else 10.0)
    monkeypatch.setenv("SELLER", keys.sha256(b"SELLER").hex())
    demands = rooms(lambda: {"echo": POLICY}, Unspent(), Endpoint("headers", lab.url))  # type: ignore[arg-type]
    net = read_net("lab", {"chain": "test", "headers": {"url": lab.url}})

    async def visit() -> Any:
        with party(tmp_path / "seller", "SELLER") as ports:
            async with opened(ports, net, demands=demands) as door:
                words = ("--input-type=module", "-e", CLIENT, f"{door.url}/echo", TYPE, word)
                return await asyncio.to_thread(script, lab.home, *words)

    told = asyncio.run(visit())
    assert told["status"] == status, told
    said = json.loads(told["body"])
    # The published client says nothing where it has nothing to show.
    assert said["code"] == "CERTIFICATE_TIMEOUT" if status == 408 else said["who"] == told["subject"]
