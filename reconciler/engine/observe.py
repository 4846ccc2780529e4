"""Bounded fan-out of `controller.observe`; a timeout or an error is Unknown, never a guess."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from reconciler.controller import Controller
from reconciler.engine import faults, heart
from reconciler.engine.probes import Prober
from reconciler.model.canonical import Json, digest
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import ReconcilerError
from reconciler.model.observation import Observation, ObservedState, Unknown
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import Resource
from reconciler.ports import Found, Overlay, Ports, Reads

T = TypeVar("T")

# Resources looked at together: enough to hide latency, few enough to be a polite guest of a host.
WIDTH = 16
# Seconds for one resource; a host that is slower than this has not answered.
PATIENCE = 60.0
# Large copies take longer to read: they are waited for as long as they keep coming, at no less than so many bytes a second.
SLOWEST = 4 * 1024 * 1024


async def observe(
    wants: Mapping[ResourceRef, Resource],
    records: Mapping[ResourceRef, Record],
    kinds: Mapping[str, Controller],
    ports: Ports,
    only: Iterable[ResourceRef] | None = None,
) -> ObservedState:
    """Look at every declared or recorded resource (or only those named) through one snapshot of the hosts."""
    refs = sorted({*wants, *records} if only is None else set(only))
    reads = snapshot(ports, networks(wants, records))
    gate = asyncio.Semaphore(WIDTH)

    async def one(ref: ResourceRef) -> Observation:
        controller = kinds.get(ref.kind)
        if controller is None:
            return Unknown(f"no kind {ref.kind} is installed")
        async with gate:
            try:
                async with _patience(records.get(ref)):
                    return await controller.observe(wants.get(ref), records.get(ref), reads)
            except TimeoutError:
                return Unknown(f"no answer within {PATIENCE:.0f} s")
            except ReconcilerError as error:
                return Unknown(error.message)
            except Exception as bug:
                named = faults.fault(bug)
                faults.tell(str(ref), named, bug)
                return Unknown(named.message)

    return dict(zip(refs, await asyncio.gather(*(one(ref) for ref in refs)), strict=True))


def _kept(record: Record | None) -> int:
    """Bytes that hosts keep of a resource by the record, all copies together."""
    if record is None or not record.outputs.get("files"):
        return 0
    size: int = sum(file["size"] for file in record.outputs["files"])
    return size * len(record.outputs.get("replicas") or ())


@contextlib.asynccontextmanager
async def _patience(record: Record | None) -> AsyncIterator[None]:
    """TimeoutError in the block after PATIENCE seconds; where copies are large, not while they keep coming fast enough."""
    loop, pulse = asyncio.get_running_loop(), heart.Pulse()
    began = loop.time()
    later: asyncio.TimerHandle
    async with asyncio.timeout(None) as limit:

        def look(before: int) -> None:
            nonlocal later
            if pulse.beats > before and loop.time() < began + PATIENCE + _kept(record) / SLOWEST:
                later = loop.call_later(PATIENCE, look, pulse.beats)
            else:
                limit.reschedule(loop.time())

        later = loop.call_later(PATIENCE, look, 0)
        try:
            with heart.carrying(pulse):
                yield
        finally:
            later.cancel()


def networks(wants: Mapping[ResourceRef, Resource], records: Mapping[ResourceRef, Record]) -> dict[str, Json]:
    """The spec of every Network by name, as declared, or as recorded when it no longer is."""
    recorded = {ref.name: record.body["spec"] for ref, record in records.items() if ref.kind == "Network"}
    return recorded | {ref.name: dict(want.spec) for ref, want in wants.items() if ref.kind == "Network"}


def snapshot(ports: Ports, networks_: Mapping[str, Json]) -> Reads:
    """The read doors with lookups remembered for one pass, so that a thousand resources ask a host once."""
    overlay = _Remembered(ports.overlay)
    return Reads(ports.clock, ports.chain, overlay, ports.storage, ports.wallet, ports.ledger, together, Prober(ports), networks_)


async def together(reads: Sequence[Awaitable[T]]) -> list[T]:
    """Several reads of one resource at once, `WIDTH` at a time; when one fails, or the pass is cancelled, all of them end."""
    gate = asyncio.Semaphore(WIDTH)

    async def one(read: Awaitable[T]) -> T:
        async with gate:
            return await read

    tasks = [asyncio.ensure_future(one(read)) for read in reads]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        # Nobody waits for the others any more: those on their way end here, and those that never began are put away.
        for task in tasks:
            task.cancel()
        for read in reads:
            if inspect.iscoroutine(read) and inspect.getcoroutinestate(read) == inspect.CORO_CREATED:
                read.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


@dataclass(slots=True)
class _Remembered:
    """An Overlay whose equal lookups share one request. Writes are not there to be called."""

    inner: Overlay
    asked: dict[tuple[str, str, str], asyncio.Task[Sequence[Found]]] = field(default_factory=dict)

    async def lookup(self, host: Endpoint, service: str, query: Json) -> Sequence[Found]:
        key = (host.url, service, digest(query))
        if key not in self.asked:
            self.asked[key] = asyncio.ensure_future(self.inner.lookup(host, service, query))
        return await asyncio.shield(self.asked[key])

    async def health(self, host: Endpoint) -> Mapping[str, Json]:
        return await self.inner.health(host)

    async def submit(self, host: Endpoint, beef: bytes, topics: Sequence[str]) -> Mapping[str, Sequence[int]]:
        raise AssertionError("observe may not write")
