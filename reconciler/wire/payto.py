"""Where money is sent, in the texts that people exchange: P2PKH addresses, and payment links as BIP-21 writes them."""

from __future__ import annotations

from decimal import Decimal
from urllib.parse import quote

from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire.keys import base58check_decode, base58check_encode
from reconciler.wire.script import is_p2pkh, p2pkh_hash

# Version bytes of P2PKH addresses. Every chain but the main one, the devnet too, uses those of the test network.
_MAIN, _TEST = b"\x00", b"\x6f"
_COIN = Decimal(100_000_000)


def address_of(script: bytes, chain: str) -> str:
    """The address that a P2PKH script pays."""
    if not is_p2pkh(script):
        raise LocalProtocolError("no-address", "cannot write an address: the script is not P2PKH")
    # 76 a9 14 <20 bytes> 88 ac
    return base58check_encode((_MAIN if chain == "main" else _TEST) + script[3:23])


def script_of(address: str, chain: str) -> bytes:
    """The script that pays an address; LocalProtocolError for other kinds of address and for those of another chain."""
    try:
        payload = base58check_decode(address.strip())
    except RemoteProtocolError as error:
        told = f"cannot pay to {address[:80]!r}: {error.hint or 'it is no address'}"
        raise LocalProtocolError("bad-address", told, hint="write a P2PKH address in Base58Check") from error
    if len(payload) != 21 or payload[:1] not in (_MAIN, _TEST):
        hint = "write a P2PKH address; they begin with 1 on main, with m or n elsewhere"
        raise LocalProtocolError("bad-address", f"cannot pay to {address}: it is no P2PKH address", hint=hint)
    if (payload[:1] == _MAIN) is not (chain == "main"):
        other = "main" if payload[:1] == _MAIN else "a test network"
        hint = "ask for an address of the right chain: what is sent to the other one cannot be had back"
        raise LocalProtocolError(
            "other-chain", f"cannot pay to {address} on chain {chain}: it is an address of {other}", hint=hint
        )
    return p2pkh_hash(payload[1:])


def payment_link(address: str, satoshis: int = 0, label: str = "") -> str:
    """`bitcoin:` link with the amount in coins of 100 000 000 satoshis, its zeros trimmed, as BIP-21 has it.

    `sv` says which of the chains that share these addresses is meant.
    """
    said = ["sv"]
    if satoshis:
        said.append(f"amount={format((satoshis / _COIN).normalize(), 'f')}")
    if label:
        said.append(f"label={quote(label, safe='')}")
    return f"bitcoin:{address}?{'&'.join(said)}"
