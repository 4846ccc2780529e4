"""`doctor`: is this machine, this repository and this network fit for work? Every check that fails says the fix."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import exits, output
from reconciler.cli.context import GLOBALS, settings

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.kinds.network import Net
    from reconciler.model.endpoint import Endpoint

# Durable writes measured, and the median above which a journal would be felt (a plan of a thousand steps takes minutes).
_SYNCS = 9
_SLOW_SYNC = 0.05
# How far a block's time may lie ahead of ours before the clock is the suspect: two hours is what miners allow each other.
_AHEAD = 2 * 3600
_SMALL, _DAY = 1024, 24 * 60
_NO_TRANSACTION = "00" * 32


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: `fix` says what to do when it is not `ok`."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


def bind(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(doctor)


def doctor(
    network: Annotated[
        str | None,
        typer.Option("--network", metavar="NAME", help="Look only at each host of this Network; without key, ledger or write."),
    ] = None,
    form: Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How it is written.")] = "text",
) -> int:
    """Check clock, disk, manifests, keys, ledger, hosts and purse; repairs nothing. Exit code 1 when something needs a fix."""
    if network is None:
        checks = asyncio.run(_all())
    else:
        from reconciler.cli.netcheck import visited

        checks = [Check(one.name, one.ok, one.said, one.fix) for one in asyncio.run(visited(network))]
    if form == "json":
        output.document({"ok": all(one.ok for one in checks), "checks": [asdict(one) for one in checks]})
    else:
        _tell(checks)
    return exits.OK if all(one.ok for one in checks) else exits.ERROR


def _tell(checks: Sequence[Check]) -> None:
    paint = output.style_for(sys.stdout, GLOBALS.colour)
    width = max(len(one.name) for one in checks)
    for one in checks:
        mark = paint("good", "ok  ") if one.ok else paint("bad", "FAIL")
        output.data(f"{mark} {one.name:<{width}}  {one.detail}".rstrip())
        if not one.ok and one.fix:
            output.data(f"     {'':<{width}}  {paint('hint', 'fix')}: {one.fix}")
    failed = sum(not one.ok for one in checks)
    output.data(f"{len(checks)} checks, {failed} failed" if failed else f"{len(checks)} checks, all well")


async def _all() -> list[Check]:
    from reconciler.cli.checking import repository
    from reconciler.compose import workspace
    from reconciler.model.errors import ReconcilerError

    repo = repository()
    manifests = _manifests(repo)
    if repo.settings is None:
        return manifests
    chosen = settings()
    checks = [*manifests, _disk(chosen.state_dir), _ledger(chosen.database)]
    if not checks[-1].ok:
        return checks
    try:
        async with workspace(chosen) as space:
            followed = await _source(space)
            lost = any(not one.ok and one.name == "source" for one in followed) and not space.ports.source.standing().current
            return [*checks, *followed, *([] if lost else await _world(space))]
    except ReconcilerError as error:
        return [*checks, Check("workspace", False, error.message, error.hint or "")]


# --- this machine ------------------------------------------------------------------------------------


def _manifests(repo: Any) -> list[Check]:
    """Settings and manifests, as `validate` reads them."""
    if repo.settings is None:
        first = repo.faults[0]
        return [Check("settings", False, f"{first.at}: {first.message}", "reconciler validate shows the place")]
    found = [Check("settings", True, f"mode {repo.settings.mode}, state {repo.settings.state}")]
    if repo.settings.git is not None:
        return found
    loaded = repo.load(repo.environment)
    if loaded.errors:
        told = f"{len(loaded.errors)} errors; first {loaded.errors[0].at}: {loaded.errors[0].message}"
        return [*found, Check("manifests", False, told, "reconciler validate")]
    if not loaded.documents:
        return [*found, Check("manifests", False, f"none below {repo.revision.root}", "reconciler init, or reconciler new")]
    return [*found, Check("manifests", True, f"{loaded.documents} resources in {loaded.files} files")]


async def _source(space: Workspace) -> list[Check]:
    """Whether the repository that is followed answers, and its head is in force."""
    from reconciler.engine.source import short

    said = space.settings.git
    if said is None:
        return []
    await space.ports.source.refresh()
    standing = space.ports.source.standing()
    told = f"{short(standing.current) or 'nothing in force'}, {standing.message or standing.reason}"
    if standing.pinned:
        told += ", pinned"
    if standing.fault:
        return [Check("source", False, standing.fault, "check source.git, its credentials, and the way there")]
    if standing.held_back:
        fix = {"Rewound": "let it in with allowRewind: true, once"}.get(standing.reason, "have the head signed, or correct it")
        return [Check("source", False, f"{short(standing.head)} is not in force: {standing.message}", fix)]
    loaded = space.surveyor.load()
    found = [Check("source", True, told)]
    if loaded.errors:
        first = loaded.errors[0]
        told = f"{len(loaded.errors)} errors; first {first.at}: {first.message}"
        return [*found, Check("manifests", False, told, "correct it, and push")]
    return [*found, Check("manifests", True, f"{loaded.documents} resources in {loaded.files} files")]


def _disk(directory: Path) -> Check:
    """The median of a few durable writes where the ledger lives: what every step of a run costs."""
    took = []
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=directory) as file:
            for _ in range(_SYNCS):
                began = time.perf_counter()
                file.write(b"\0" * 4096)
                file.flush()
                os.fsync(file.fileno())
                took.append(time.perf_counter() - began)
    except OSError as error:
        return Check(
            "disk", False, f"cannot write to {directory}: {error.strerror}", "make it writable, or choose another --state"
        )
    middle = median(took)
    told = f"a durable write takes {middle * 1000:.2f} ms (worst of {_SYNCS}: {max(took) * 1000:.2f} ms)"
    return Check("disk", middle < _SLOW_SYNC, told, "put the state on a local disk, not on a network share")


def _ledger(database: str) -> Check:
    from reconciler.adapters.sql.integrity import faults
    from reconciler.model.errors import ReconcilerError

    try:
        found = faults(database)
    except ReconcilerError as error:
        return Check("ledger", False, error.message, error.hint or "restore a backup of the state directory")
    if found is None:
        return Check("ledger", True, "none yet; it is made with the first plan")
    if found:
        return Check("ledger", False, f"damaged: {found[0]}", "stop everything, restore a backup of the state directory")
    return Check("ledger", True, "readable, every page and index sound")


# --- the world ---------------------------------------------------------------------------------------


async def _world(space: Workspace) -> list[Check]:
    from reconciler.engine.observe import networks
    from reconciler.engine.survey import key_sources, midnight
    from reconciler.kinds import identity_keys
    from reconciler.kinds.network import read_net

    desired = space.surveyor.load().desired
    recorded = space.ports.ledger.read(midnight(space.ports.clock.now()))
    sources = key_sources(desired, recorded)
    specs = networks(desired.resources if desired else {}, recorded.records)
    nets = [read_net(name, specs[name]) for name in sorted(specs)]
    checks = [_key(space, "wallet", space.settings.wallet_key, known=bool(recorded.purses))]
    space.ports.wallet.know(sources)
    mine = {ref.name: record.outputs for ref, record in recorded.records.items() if ref.kind == "Identity"}
    recorded_keys = {*mine, *(identity_keys.current(name, outputs) for name, outputs in mine.items())}
    checks += [_key(space, name, source, known=name in recorded_keys) for name, source in sorted(sources.items())]
    checks += await asyncio.gather(*(probe for net in nets for probe in _probes(space, net)))
    checks += [await _clock(space, nets)]
    checks += await _next_plan(space) if desired is not None else []
    return [*checks, _daemon(space)]


def _key(space: Workspace, name: str, source: Any, *, known: bool) -> Check:
    """Whether a key can be opened, and nobody else can read it. One that is to be made later is no fault."""
    from reconciler.compose import keyring
    from reconciler.model.errors import ReconcilerError

    label, wallet = f"key {name}", space.ports.wallet
    store, _ = keyring(space.settings)
    where = store.where(name, source)
    if not store.exists(name, source):
        if known or source.get("generate") == "never":
            return Check(label, False, f"{where} does not exist", f"restore it: reconciler identity restore {name} FILE")
        try:
            if not {"env", "credential", "signer"} & set(source):
                store.passphrase(source)
        except ReconcilerError as error:
            return Check(label, False, f"not made yet, and {error.message}", error.hint or "")
        return Check(label, True, f"not made yet; the first apply makes it in {where}")
    try:
        public = wallet.public_key(name)
    except ReconcilerError as error:
        return Check(label, False, error.message, error.hint or "check the passphrase")
    mode = 0o600 if {"env", "credential", "signer"} & set(source) else _mode(store.path(name, source))
    if mode & 0o077:
        return Check(label, False, f"{where} has mode {mode:04o}: others can read it", f"chmod 600 {where}")
    return Check(label, True, f"{public[:16]}… in {where}")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _probes(space: Workspace, net: Net) -> list[Awaitable[Check]]:
    """One request to every host of a network."""
    ports = space.ports

    async def overlay(host: Endpoint) -> str:
        report = await ports.overlay.health(host)
        if not report["healthy"]:
            from reconciler.model.errors import Unavailable

            raise Unavailable("unhealthy", f"cannot rely on {host.url}: it answers {report['status']} on /health")
        return "healthy"

    async def storage(host: Endpoint) -> str:
        return f"asks {await ports.storage.quote(host, _SMALL, _DAY)} sat for 1 KiB and a day"

    async def broadcaster(host: Endpoint) -> str:
        # A silent broadcaster still has a fallback rate; a question about a transaction has no answer without it.
        await ports.chain.status(_NO_TRANSACTION, [host])
        rate = await ports.chain.fee_rate([host])
        return f"asks {rate.satoshis} sat per {rate.bytes} bytes"

    async def headers(host: Endpoint) -> str:
        tip = await ports.chain.tip(host)
        await ports.chain.header(tip, host)
        return f"tip at height {tip}"

    return [
        *(_probe("overlay", host, overlay) for host in net.overlays),
        *(_probe("storage", host, storage) for host in net.storage),
        *(_probe("broadcaster", host, broadcaster) for host in net.broadcasters),
        *(_probe("headers", one, headers) for one in _header_sources(net)),
    ]


def _header_sources(net: Net) -> list[Endpoint]:
    """Each source alone, and after several of them what they say together."""
    from reconciler.adapters.crosscheck import sources_of

    alone = sources_of(net.headers)
    return [net.headers] if len(alone) == 1 else [*(replace(one, name=f"{n}") for n, one in enumerate(alone, 1)), net.headers]


async def _probe(kind: str, host: Endpoint, ask: Callable[[Endpoint], Awaitable[str]]) -> Check:
    from reconciler.model.errors import ReconcilerError

    label, began = f"{kind} {host.name}" if kind != host.name else kind, time.perf_counter()
    try:
        said = await ask(host)
    except ReconcilerError as error:
        return Check(label, False, error.message, f"check {host.url} in the Network manifest, and the way there")
    return Check(label, True, f"{said}, {(time.perf_counter() - began) * 1000:.0f} ms  {host.url}")


async def _clock(space: Workspace, nets: Sequence[Net]) -> Check:
    """Our time against the newest block of each chain and the newest entry of the ledger: neither may lie in the future."""
    from datetime import UTC, datetime

    from reconciler.model.errors import ReconcilerError
    from reconciler.wire.proof import parse_header

    now, fix = space.ports.clock.now(), "set the clock, and keep it set: timedatectl set-ntp true"
    with space.ports.ledger.begin() as tx:
        newest = next(iter(tx.history(limit=1)), None)
    if newest is not None and datetime.fromisoformat(newest["at"]) > now:
        return Check("clock", False, f"it is {now:%Y-%m-%d %H:%M:%S}Z here, but the ledger was written at {newest['at']}", fix)
    for net in nets:
        try:
            height = await space.ports.chain.tip(net.headers)
            header = await space.ports.chain.header(height, net.headers)
        except ReconcilerError:
            continue
        if header is not None and (mined := parse_header(header.raw, height).time) > now.timestamp() + _AHEAD:
            block = f"{datetime.fromtimestamp(mined, UTC):%Y-%m-%d %H:%M:%S}Z"
            return Check("clock", False, f"it is {now:%Y-%m-%d %H:%M:%S}Z here, but block {height} was mined at {block}", fix)
    return Check("clock", True, f"{now:%Y-%m-%d %H:%M:%S}Z, not behind the newest block")


async def _next_plan(space: Workspace) -> list[Check]:
    """The purse against the price of the next plan, and whether what was published can still be found."""
    from reconciler.model.change import Verb
    from reconciler.planner.phrases import sats

    survey = await space.surveyor.survey()
    plan = space.surveyor.plan(survey, space.settings.limits)
    funds = next((guard for guard in plan.guards if guard.name == "funds"), None)
    total = ", ".join(f"{sats(purse.total)} on {chain}" for chain, purse in sorted(survey.recorded.purses.items())) or "empty"
    fix = "reconciler wallet fund on a devnet; elsewhere pay to reconciler wallet address"
    short = funds is not None and not funds.ok
    told = f"{total}; the next plan costs {sats(plan.cost.satoshis)}" + (f" ({funds.message})" if short and funds else "")
    checks = [Check("purse", not short, told, fix)]
    for change in plan.changes:
        if change.verb is Verb.REPAIR:
            lost = ", ".join(delta.path for delta in change.deltas[:3])
            fix = f"reconciler reconcile --force {change.ref}"
            checks.append(Check(str(change.ref), False, f"not where it should be: {lost}", fix))
    return checks


def _daemon(space: Workspace) -> Check:
    from reconciler.cli.holders import presence

    daemon = presence(space)
    return Check("daemon", True, f"running as {daemon.owner}" if daemon.running else "not running; start it with reconciler run")
