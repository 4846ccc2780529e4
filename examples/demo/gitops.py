"""From then on a commit is the deployment: signed, unsigned, a new key, and one that takes half of it away."""

from __future__ import annotations

import secrets
import shutil

from examples.demo.author import Author
from examples.demo.shop import Shop
from examples.demo.stage import note, title
from reconciler.wire.keys import public_key

# The daemon asks the remote every second and looks at the network every four, so that nobody has to wait.
SETTINGS = """\
source:
  git:
    url: file://{remote}
    branch: main
    poll: 1s
    verify: {{ssh: ["{signer}"]}}
approvals:
  guards: [deletes]
  keys: [{{name: bob, publicKey: "{approver}"}}]
"""


def follow(shop: Shop, author: Author) -> str:
    """A signed commit arrives by itself; its id."""
    title("A daemon that follows a git repository: a signed commit with a new price and one more file")
    author.set_up()
    author.push("What we publish")
    # Who signs plans keeps the key, and it is none of the shop's.
    secret = secrets.token_bytes(32)
    key = shop.root.parent / "bob.key"
    key.touch(0o600)
    key.write_text(secret.hex())
    settings = SETTINGS.format(remote=author.remote, signer=author.signer, approver=public_key(secret).hex())
    shop.edit("reconciler.yaml", "source: {path: .}\n", settings)
    note("reconciler.yaml says whom to follow, whose signature counts, and who may let a deletion pass:")
    for line in settings.splitlines():
        note(f"  {line}")
    shop.edit("reconciler.yaml", "resync: 30s", "resync: 4s\nconfirm: 3s")
    shop.edit("reconciler.yaml", "deletes: {percent: 30}", "deletes: {count: 1}")
    shop.start_daemon()
    shop.hear("source.advanced")
    shop.edit("prices.yaml", "2750sat", "3000sat")
    shutil.move(shop.held_back, shop.root / "data")
    head = author.push("3000 sat a file, and 2015")
    shop.hear("plan.applied", revision=head)
    return head.removeprefix("main@")[:12]


def ignore(shop: Shop, author: Author, good: str) -> None:
    """An unsigned one changes nothing; `good` is the commit that stays in force."""
    title("Somebody pushes without a signature")
    shop.edit("prices.yaml", "3000sat", "1sat")
    head = author.push("Nearly free", "--no-gpg-sign")
    shop.hear("source.held", revision=head)
    shop.run("status")
    note("what is published stays as it was; its author takes it back")
    author.call("git", "reset", "--quiet", "--hard", good)


def heal(shop: Shop) -> None:
    """Damage is found and repaired, for free."""
    title("A storage host loses everything; the daemon finds out by itself, and the repair is free")
    shop.run("devnet", "wipe", "eu1")
    shop.hear("plan.applied", satoshis=0)


def rotate(shop: Shop, author: Author) -> None:
    """Another key follows, and everything that builds on it is signed anew."""
    title("A key is replaced by another: one line in a manifest, one commit")
    shop.run("identity", "rotate", "fx-desk", "--window", "7d")
    head = author.push("Another key")
    shop.hear("plan.applied", revision=head)


def prove(shop: Shop) -> None:
    """A proof needs nobody's word."""
    title("A proof that a stranger checks offline, under the new key")
    shop.run("devnet", "mine", "1")
    file = "data/fx-2020.csv"
    shop.run("proof", "Dataset/fx-history", "--file", file, "--out", "../fx-2020.proof")
    shop.run("verify", "dataset", "../fx-2020.proof", "--content", file)


def halve(shop: Shop, author: Author) -> None:
    """Half of it goes only when somebody has signed that very plan."""
    title("A commit that deletes half of the repository is refused, until somebody signs that very plan")
    for name in ("datasets.yaml", "feed.yaml"):
        author.call("git", "rm", "--quiet", name)
    author.push("No more rates")
    shop.hear("deletion.unconfirmed")
    shop.run("plan", "--out", "half.json", ok=(4,))
    note("exit code 4: a guard refuses")
    shop.run("approve", "half.json", "--guard", "deletes", "--wif-file", "../bob.key", "--reason", "the feed has ended")
    shop.run("apply", "half.json")
