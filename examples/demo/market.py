"""A shop opens, a stranger buys, and everybody has what is theirs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from examples.demo.author import Author
from examples.demo.shop import GATEWAY, Shop
from examples.demo.stage import note, title
from reconciler.wire import payment
from reconciler.wire.keys import public_key, sha256
from reconciler.wire.script import p2pkh
from reconciler.wire.tx import parse_tx

BUYER = Path(__file__).resolve().parents[1] / "08-buyer" / "buyer"
# Who looks the rates through has a tenth of every sale.
CURATOR = sha256(b"the curator of a demonstration")
POLICY = """\
# Whose money it is.
apiVersion: overlay.bsv/v1alpha1
kind: PaymentPolicy
metadata: {{name: shared}}
spec:
  splits: {{producer: "0.9", curator: "0.1"}}
  parties: {{curator: {{identityKey: {curator}}}}}
  settle: {{every: 1h, min: 1sat}}
"""


def reopen(shop: Shop, author: Author, good: str) -> str:
    """Datasets, a gateway and a share for somebody else, in one commit; where the shop is."""
    title("One more commit: it is published again, sold at a gateway, and a tenth of every sale is the curator's")
    author.call("git", "checkout", "--quiet", good, "--", "datasets.yaml", "feed.yaml")
    (shop.root / "payments.yaml").write_text(POLICY.format(curator=public_key(CURATOR).hex()))
    shop.edit("datasets.yaml", "pricePlanRef: per-file\n", "pricePlanRef: per-file\n  paymentPolicyRef: shared\n")
    address = f"127.0.0.1:{shop.base + GATEWAY}"
    shop.edit("network.yaml", "gateway: {publicUrl", f'gateway: {{listen: "{address}", publicUrl')
    head = author.push("Open for business")
    shop.hear("plan.applied", revision=head)
    shop.reach(f"http://{address}/readyz")
    shop.run("devnet", "mine", "1")
    note(f"the storefront, while this runs: http://{address}/catalog")
    return f"http://{address}"


def buy(shop: Shop, url: str) -> str:
    """A buyer of another directory, key and purse; where he keeps the receipt."""
    title("A buyer, who trusts nobody: finds it on the overlay, pays within a budget, and has the file")
    root = shop.root.parent / "buyer"
    shutil.copytree(BUYER, root)
    network = root / "network.yaml"
    network.write_text(network.read_text().replace("127.0.0.1:90", f"127.0.0.1:{shop.base // 100}"))
    identity = root / "identity.yaml"
    identity.write_text(identity.read_text().replace("perRequest: 1000sat", "perRequest: 3000sat"))
    at = ("-C", "../buyer")
    shop.run(*at, "wallet", "fund", "--satoshis", "20000")
    shop.run(*at, "apply", "--yes")
    shop.run(*at, "consumer", "search", "rates")
    shop.run(*at, "consumer", "access", "fx-2024", "--cost", "3000", "--at", url, "--to", "../buyer/bought")
    shop.run("devnet", "mine", "1")
    shop.run(*at, "consumer", "receipts", "fx-2024", "--out", "../buyer/receipt.json")
    return "../buyer/receipt.json"


def settle(shop: Shop, receipt: str) -> None:
    """The receipt holds offline, and the curator's key opens the curator's coin."""
    title("The receipt, checked offline; and the split, in each party's coins")
    shop.run("verify", "receipt", receipt)
    note("the payment is in a block, so what others have of it can go out, in one transaction; the daemon would, each minute:")
    shop.until("the payment is in a block", "select 1 from producer_revenue where payment_status = 'confirmed'")
    shop.run("payments", "settle", "--yes")
    ((detail,),) = shop.ask("select detail from history where event = 'dues.settled'")
    told = json.loads(detail)
    (share,), (txid,) = told["parties"], told["txids"]
    ((raw,),) = shop.ask(f"select raw from transactions where txid = '{txid}'")
    coin = parse_tx(raw).outputs[share["vout"]]
    sender, prefix, suffix = bytes.fromhex(told["sender"]), told["derivationPrefix"], told["derivationSuffix"]
    if coin.script != p2pkh(public_key(payment.secret_from(CURATOR, sender, prefix, suffix))):
        raise SystemExit("demo: the curator's key does not open the curator's coin")
    ((paid,),) = shop.ask("select amount_satoshis from producer_revenue")
    note(f"the producer's purse keeps {paid - coin.satoshis} sat of {paid}, less a fee of {told['fee']}")
    note(f"the curator's key opens output {share['vout']} of {txid}: {coin.satoshis} sat")
