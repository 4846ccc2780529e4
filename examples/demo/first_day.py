"""From nothing to a shop that is published, as the only person at the keyboard; with one accident."""

from __future__ import annotations

from examples.demo.shop import PORTS, Shop
from examples.demo.stage import note, title
from reconciler.planner.planfile import read_plan


def publish(shop: Shop) -> None:
    """A network, a plan with its price, and what applying it comes to."""
    title("A network in a box: headers, a broadcaster, two overlay nodes, three storage hosts; and a filled purse")
    ports = (word for name, offset in PORTS.items() for word in ("--port", f"{name}={shop.base + offset}"))
    shop.run("devnet", "up", "--fund", hidden=tuple(ports))

    title("Manifests, validated and priced before anything happens")
    shop.run("validate")
    shop.run("plan", "--out", "plan.json")

    title("Applied: keys, signed documents, files on two hosts each, tokens on the overlay")
    shop.run("apply", "plan.json", "--yes")
    note("a second plan has nothing left to do:")
    shop.run("plan", "--detailed-exitcode")


def kill_and_recover(shop: Shop) -> None:
    """SIGKILL while a transaction is on its way, then the same command again."""
    title("Killed in the middle of an apply (SIGKILL), then started again")
    shop.run("set", "PricePlan/per-file", "spec.rate=2750sat")
    shop.run("plan", "--out", "plan.json")
    wanted = read_plan((shop.root / "plan.json").read_bytes()).cost.satoshis
    before = shop.purse()
    child = shop.start("apply", "plan.json", "--yes")
    begun = "select 1 from intents i join runs r on r.id = i.run where r.state = 'open' and i.effect = 'Broadcast'"
    shop.until("a transaction was on its way", begun)
    child.kill()
    child.wait()
    note(f"killed process {child.pid} while a transaction was on its way; open runs in the journal:")
    shop.run("journal", "list")
    shop.run("apply", "--yes")
    spent = before - shop.purse()
    note(f"planned {wanted} sat, spent {spent} sat: nothing was paid twice")
    if spent != wanted:
        raise SystemExit("demo: the purse does not agree with the plan")
