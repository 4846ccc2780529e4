"""Propose mode in whole: a commit becomes a signed plan that waits, two of three people sign it, and that very plan is done."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.cli.main import run
from reconciler.compose import Workspace
from reconciler.engine.handlers import Handlers
from reconciler.model.plan import Plan
from reconciler.model.ref import ResourceRef
from reconciler.planner.planfile import read_plan
from reconciler.wire.keys import public_key, wif_encode
from reconciler.wire.message import verify_message
from tests.e2e.remote import Remote, ssh_key
from tests.e2e.scene import FULL, PRICE, Scene, play
from tests.e2e.test_approvals import events, opened, recorded

PEOPLE = {name: bytes.fromhex(digit * 64) for name, digit in (("ann", "1"), ("bob", "2"), ("cat", "3"))}
SETTINGS = """\
mode: propose
source: {{git: {{url: "{url}", path: producers, verify: {{ssh: ["{signer}"]}}}}}}
review: {{context: reconciler/test, directory: review}}
approvals:
  required: 2
  inbox: approvals
  keys: [{keys}]
"""
FIRST: dict[str, str | bytes | None] = {f"producers/{name}": text for name, text in FULL.items()}


class Firm:
    """A repository whose authors sign, the desk of its daemon, and three people who agree to plans, each at home."""

    def __init__(self, root: Path) -> None:
        self.origin, self.desk, self.home = Remote(root / "origin"), Scene(root / "desk"), root / "home"
        alice = ssh_key(root / "keys", "alice")
        self.origin.sign = alice.signing
        keys = ", ".join(f'{{name: {name}, publicKey: "{public_key(key).hex()}"}}' for name, key in PEOPLE.items())
        told = SETTINGS.format(url=self.origin.url, signer=alice.allowed("alice@example.org"), keys=keys)
        self.desk.write({"reconciler.yaml": told})
        self.home.mkdir()
        (self.home / "reconciler.yaml").write_text(told)
        for name, key in PEOPLE.items():
            place = self.home / name
            place.touch(0o600)
            place.write_text(wif_encode(key, "devnet"))

    @property
    def review(self) -> Path:
        return self.desk.root / "review"

    def summary(self) -> str:
        """The sentence that goes with it."""
        return str(json.loads((self.review / "status.json").read_text())["summary"])

    def status(self) -> tuple[str, str, str]:
        """(revision, state, plan) of the newest status that reviewers were told."""
        said = json.loads((self.review / "status.json").read_text())
        return said["revision"], said["state"], said["plan"]

    def sign(self, plan: str, *names: str) -> None:
        """What `reconciler approve` makes of a proposal at home, with neither ledger nor network, goes into the inbox."""
        inbox = self.desk.root / "approvals"
        inbox.mkdir(exist_ok=True)
        for name in names:
            out = str(inbox / f"{plan}.{name}.sig")
            words = ["approve", str(self.review / f"{plan}.json"), "--wif-file", str(self.home / name), "--out", out]
            assert run(["-C", str(self.home), *words]) == 0
        assert not (self.home / ".state").exists()


@pytest.fixture
def firm(tmp_path: Path) -> Iterator[Firm]:
    yield Firm(tmp_path)


def acting(space: Workspace) -> Handlers:
    """The daemon's own handlers."""
    made = Handlers(space.runner, space.surveyor, space.settings.limits, space.settings.mode)
    assert space.review is not None
    made.tell, made.approvals = space.review, space.approvals
    return made


async def passed(firm: Firm) -> Plan:
    """One pass of a daemon that was just started."""
    async with opened(firm.desk) as space:
        handlers = acting(space)
        async with handlers.runner.lease("plan") as lease:
            await handlers.plan(lease)
        assert handlers.last_plan is not None
        return handlers.last_plan


@pytest.mark.row("P-CFG-16", "S-13", "P-SEC-01")
def test_a_proposal_is_signed_found_agreed_to_by_two_of_three_and_done(firm: Firm) -> None:
    async def scene() -> None:
        head = firm.origin.push(FIRST)
        await firm.desk.fund()
        plan = await passed(firm)
        assert firm.status() == (f"main@{head}", "pending", plan.id)
        # A reviewer finds the whole plan, signed by the key of the daemon's purse, and a page to read.
        file = (firm.review / f"{plan.id}.json").read_bytes()
        signature = json.loads((firm.review / f"{plan.id}.json.sig").read_text())
        async with opened(firm.desk) as space:
            assert signature["signer"] == space.ports.wallet.public_key("wallet")
        assert verify_message(base64.b64decode(signature["value"]), file).hex() == signature["signer"]
        assert read_plan(file).digest == plan.digest and "Dataset/rates" in (firm.review / f"{plan.id}.md").read_text()
        # One of them is not enough, however often he signs.
        firm.sign(plan.id, "bob")
        assert (await passed(firm)).id == plan.id
        firm.sign(plan.id, "bob")
        await passed(firm)
        assert firm.status()[1:] == ("pending", plan.id)
        assert "waits: 2 of ann, bob, cat must sign" in firm.summary()
        firm.sign(plan.id, "cat")
        assert (await passed(firm)).id == plan.id, "another plan than the one they signed"
        async with opened(firm.desk) as space:
            assert len(recorded(space)) == len(plan.acting) == 5 and events(space) == ["plan.approved"]
            with space.ports.ledger.begin() as tx:
                (noted,) = [one["detail"] for one in tx.history() if one["event"] == "plan.approved"]
            assert noted["plan"] == plan.id and {one["name"] for one in noted["by"]} == {"bob", "cat"}
        assert firm.status()[:2] == (f"main@{head}", "success")

    play(scene, firm.desk.world.clock)


def test_another_head_makes_every_signature_void(firm: Firm) -> None:
    async def scene() -> None:
        firm.origin.push(FIRST)
        await firm.desk.fund()
        old = await passed(firm)
        # All three sign; before the daemon looks again somebody pushes, properly signed, a price that nobody has seen.
        firm.sign(old.id, *PEOPLE)
        head = firm.origin.push({"producers/price.yaml": PRICE.replace("25sat", "1sat")})
        new = await passed(firm)
        assert new.id != old.id and firm.status() == (f"main@{head}", "pending", new.id)
        assert [guard.message for guard in new.refusals] == ["2 of ann, bob, cat must sign"]
        async with opened(firm.desk) as space:
            assert recorded(space) == set() and events(space) == []
            assert space.approvals is not None
            found = space.approvals.consent(new)
            assert not found.given and len(found.tally.ignored) == 3
        # So does a commit that changes nothing but the history: they signed a plan for the commit they saw.
        firm.sign(new.id, "ann", "cat")
        third = firm.origin.push({"README.md": "# About us\n"})
        last = await passed(firm)
        assert last.revision == f"main@{third}" and last.id != new.id
        firm.sign(last.id, "ann", "cat")
        assert (await passed(firm)).id == last.id
        async with opened(firm.desk) as space:
            assert len(recorded(space)) == 5
            with space.ports.ledger.begin() as tx:
                record = tx.record(ResourceRef("PricePlan", "standard"))
            assert record is not None and record.body["spec"]["rate"] == 1

    play(scene, firm.desk.world.clock)
