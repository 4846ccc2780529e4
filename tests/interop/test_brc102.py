"""The modules that we export for other people's nodes, run by Node with the published SDK and a real database."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.export import brc102
from reconciler.devnet.topics import services, topics
from reconciler.devnet.world import World
from reconciler.engine.receive import receive
from reconciler.model.errors import RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire.beef import write_beef
from reconciler.wire.descriptor import Descriptor, parse_descriptor
from reconciler.wire.tx import Tx
from tests.e2e.scene import ADVERTISEMENT, FULL, Scene, play
from tests.interop.lab import Lab, script

pytestmark = pytest.mark.slow
PASSPHRASE = "correct horse battery staple"

# Judges scripts, plays transactions through manager and service, and asks questions after each. JSON in, JSON out.
PLAY = """
import { readFileSync } from 'node:fs'
import { LockingScript, Transaction } from '@bsv/sdk'
import { openDatabase } from './src/sqlite.mjs'
const [at, input] = process.argv.slice(1)
const { default: Manager } = await import(`${at}/src/topic-managers/ProducerTopicManager.js`)
const { default: factory } = await import(`${at}/src/lookup-services/ProducerLookupServiceFactory.js`)
const { readDescriptor } = await import(`${at}/src/rules/descriptor.js`)
const { scripts, steps, wrong } = JSON.parse(readFileSync(input))
const db = openDatabase()
const { service, migrations } = factory(db)
for (const { up } of migrations) await up(db)
const manager = new Manager()
const outpoint = ({ txid, outputIndex }) => `${txid}.${outputIndex}`
const ask = async (query) => (await service.lookup({ service: 'ls_producer', query })).map(outpoint)
const out = { scripts: [], steps: [], wrong: [], docs: [await manager.getDocumentation(), await service.getDocumentation()] }
for (const hex of scripts) out.scripts.push(await readDescriptor(LockingScript.fromHex(hex)) ?? null)
for (const { beef, previous, queries } of steps) {
  const bytes = [...Buffer.from(beef, 'hex')]
  const told = await manager.identifyAdmissibleOutputs(bytes, previous)
  const tx = Transaction.fromBEEF(bytes)
  for (const index of previous) {
    const { sourceTXID, sourceTransaction, sourceOutputIndex: outputIndex } = tx.inputs[index]
    const txid = sourceTXID ?? sourceTransaction.id('hex')
    await service.outputSpent({ mode: 'none', topic: 'tm_producer', txid, outputIndex })
  }
  for (const outputIndex of told.outputsToAdmit) {
    const { lockingScript, satoshis } = tx.outputs[outputIndex]
    const seen = { mode: service.admissionMode, topic: 'tm_producer', txid: tx.id('hex'), outputIndex, satoshis, lockingScript }
    await service.outputAdmittedByTopic(seen)
    await service.outputAdmittedByTopic(seen)
  }
  const answers = []
  for (const query of queries) answers.push(await ask(query))
  out.steps.push({ ...told, answers })
}
for (const query of wrong) out.wrong.push(await ask(query).then(() => 'answered', (error) => error.message))
console.log(JSON.stringify(out))
process.exit(0)
"""


@pytest.fixture
def backend(tmp_path: Path, lab: Lab) -> Iterator[Path]:
    """The export below the lab's packages, as its compiler leaves it: the modules hold no types."""
    brc102(tmp_path / "node")
    place = lab.home / f"exported-{tmp_path.parent.name}-{tmp_path.name}"
    for path in (tmp_path / "node/backend").rglob("*.ts"):
        made = (place / path.relative_to(tmp_path / "node/backend")).with_suffix(".js")
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(path.read_text())
    yield place
    shutil.rmtree(place)


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[World, list[str]]:
    """What a producer published, changed and withdrew on a devnet: the transactions that an overlay host saw, in order."""
    monkeypatch.setenv("RECONCILER_PASSPHRASE", PASSPHRASE)
    scene = Scene(tmp_path / "shop")
    scene.write(dict(FULL))

    async def work() -> None:
        async with scene.open() as space:
            space.ports.wallet.generate("wallet", {})
            for _ in range(2):
                _, beef = scene.world.faucet(space.ports.wallet.funding_script(), 500_000)
                await receive(space.ports, beef, scene.net())
            await scene.apply(space)
        scene.write(
            {"data/rates.csv": "date,rate\n2024-01-03,1.12\n", "advertisement.yaml": ADVERTISEMENT.replace("data-feed", "x")}
        )
        async with scene.open() as space:
            await scene.apply(space)
        (scene.root / "advertisement.yaml").unlink()
        async with scene.open() as space:
            await scene.apply(space)

    play(work, scene.world.clock)
    state = scene.world.chain.state
    ours = [txid for txid, tx in state.txs.items() if any(_read(out.script) for out in tx.outputs) or _spends(state.txs, tx)]
    return scene.world, ours


def _read(raw: bytes) -> Descriptor | None:
    try:
        return parse_descriptor(raw)
    except RemoteProtocolError:
        return None


def _spends(txs: Any, tx: Tx) -> Sequence[int]:
    """The inputs that spend a descriptor."""
    return [n for n, one in enumerate(tx.inputs) if (old := txs.get(one.txid)) and _read(old.outputs[one.vout].script)]


def damaged(good: bytes) -> list[bytes]:
    """A descriptor with one byte changed at every place, cut short, and with more behind it."""
    flips = [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(0, len(good))]
    return [good, *flips, good[:-1], good + b"\x51", good.replace(b"\x6d\x6d\x6d\x75", b"\x75" * 7), b""]


@pytest.mark.row("P-DOD-05")
def test_their_runtime_judges_indexes_and_answers_as_our_own_node(
    lab: Lab, backend: Path, history: tuple[World, list[str]], tmp_path: Path
) -> None:
    world, ours = history
    page = (Path(__file__).parents[2] / "specs/tm_producer.md").read_text()
    examples = [bytes.fromhex(text) for text in re.findall(r"```hex (?:admitted|refused)\n([0-9a-f]+)\n", page)]
    assert len(examples) == 4 and len(ours) > 5
    scripts = [*examples, *damaged(examples[0])]
    index: dict[Outpoint, Descriptor] = {}
    steps, wanted = [], []
    keep, answer = topics()["tm_producer"].keep, services()["ls_producer"].answer
    for txid in ours:
        tx = world.chain.state.txs[txid]
        previous = list(_spends(world.chain.state.txs, tx))
        spent = {
            n: parse_descriptor(world.chain.state.txs[tx.inputs[n].txid].outputs[tx.inputs[n].vout].script) for n in previous
        }
        admitted = {n: found for n, out in enumerate(tx.outputs) if (found := _read(out.script))}
        for n in previous:
            index.pop(Outpoint(tx.inputs[n].txid, tx.inputs[n].vout), None)
        index |= {Outpoint(txid, n): found for n, found in admitted.items()}
        one = next(iter(admitted.values()), next(iter(spent.values()), None))
        assert one is not None
        queries = [
            {},
            {"limit": 1},
            {"skip": 1, "sortOrder": "asc"},
            {"identityKey": one.identity.hex()},
            {"subject": one.subject},
        ]
        queries += [{"kind": one.kind}, {"digest": one.digest}, {"outpoint": f"{txid}.0"}, {"kind": "Nothing"}]
        beef = write_beef(txid, world.chain.source).hex()
        steps.append({"beef": beef, "previous": previous, "queries": queries})
        kept = sorted(keep(spent, list(admitted.values())))
        found = [[str(at) for at in answer(index, query)] for query in queries]
        wanted.append({"outputsToAdmit": list(admitted), "coinsToRetain": kept, "answers": found})
    wrong = [None, [], "findAll", {"colour": "red"}, {"limit": 0}, {"limit": 1001}, {"skip": -1}, {"sortOrder": "up"}]
    wrong += [{"subject": "no"}, {"digest": "AB"}, {"identityKey": 3}, {"outpoint": "aa.0"}]
    given = tmp_path / "play.json"
    given.write_text(json.dumps({"scripts": [raw.hex() for raw in scripts], "steps": steps, "wrong": wrong}))
    told = script(lab.home, "--input-type=module", "-e", PLAY, str(backend), str(given))
    read = [_read(raw) for raw in scripts]
    said = [
        None if one is None else (one["identityKey"], one["subject"], one["digest"], one["version"]) for one in told["scripts"]
    ]
    assert said == [one and (one.identity.hex(), one.subject, one.digest, one.version) for one in read]
    assert sum(one is not None for one in read) == 2
    assert told["steps"] == wanted
    assert any(step["coinsToRetain"] for step in wanted) and any(not step["outputsToAdmit"] for step in wanted)
    assert len(told["wrong"]) == len(wrong) and "answered" not in told["wrong"], told["wrong"]
    assert told["docs"] == [page, page]
