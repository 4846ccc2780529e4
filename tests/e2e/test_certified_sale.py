"""A dataset for those who can show what they are: the real application, a buyer before and after he has a certificate."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reconciler.adapters.auth import Introduced
from reconciler.adapters.certificates import Certificates
from reconciler.model.errors import Refused
from reconciler.wire import keys
from reconciler.wire.bytesio import varbytes, varint
from tests.e2e.market import CSV, HOST, Buyer, Market
from tests.e2e.scene import DATASET

CERTIFIER = keys.sha256(b"certifier")
TYPE, SERIAL = (base64.b64encode(byte * 32).decode() for byte in (b"\1", b"\2"))
ACCESS = f"""\
apiVersion: overlay.bsv/v1alpha1
kind: AccessPolicy
metadata: {{name: members}}
spec:
  require:
    certificates:
      - type: {TYPE}
        certifiers: [{keys.public_key(CERTIFIER).hex()}]
        fields: [name]
"""


def issued(subject: bytes) -> dict[str, object]:
    """A certificate that nothing revokes, with a keyring for its subject."""
    field_key, nonce = keys.sha256(b"field"), bytes(32)
    value = base64.b64encode(nonce + AESGCM(field_key).encrypt(nonce, "Zoë".encode(), None)).decode()
    own = keys.symmetric_key(CERTIFIER, subject, keys.invoice("certificate field encryption", "name"))
    ring = base64.b64encode(nonce + AESGCM(own).encrypt(nonce, field_key, None)).decode()
    body = b"\1" * 32 + b"\2" * 32 + subject + keys.public_key(CERTIFIER) + bytes(32) + varint(0) + varint(1)
    body += varbytes(b"name") + varbytes(value.encode())
    child = keys.child_secret(CERTIFIER, keys.ANYONE, keys.invoice("certificate signature", f"{TYPE} {SERIAL}"))
    return {
        "type": TYPE, "serialNumber": SERIAL, "subject": subject.hex(), "certifier": keys.public_key(CERTIFIER).hex(),
        "revocationOutpoint": f"{'00' * 32}.0", "fields": {"name": value}, "signature": keys.sign(child, body).hex(),
        "masterKeyring": {"name": ring}, "showTo": [HOST],
    }  # fmt: skip


@pytest.mark.row("C-18")
def test_only_who_shows_the_certificate_can_buy(selling: Callable[..., None]) -> None:
    files = {"access.yaml": ACCESS, "dataset.yaml": DATASET + "  accessPolicyRef: members\n"}

    async def scene(s: Market, b: Buyer) -> None:
        with pytest.raises(Refused, match="401"):
            await b.get("/content/rates")
        assert (await b.look("/content/rates")).status == 401
        assert (await b.look("/content/rates/sample")).status != 401
        assert not b.payments() and not s.payments()
        place = b.ports.wallet.certificates  # type: ignore[attr-defined]
        place.mkdir()
        (place / "club.json").write_text(json.dumps(issued(bytes.fromhex(b.key))))
        (place / "club.json").chmod(0o600)
        known = b.anew()
        held = Certificates(place, b.ports.entropy)
        speak = b.ports.wallet.speaker  # type: ignore[attr-defined]
        known.http.conversation = Introduced(known.http, speak, b.ports.entropy, b.purse, held)
        answer = await known.get("/content/rates")
        assert (answer.status, answer.body.decode(), answer.paid) == (200, CSV, 25)

    selling(scene, files)
