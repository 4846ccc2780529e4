"""Earlier versions of a dataset: `keepVersions` of them are kept where the present one is, and the others are let go.

Outputs hold them under `versions`, the newest first: {"sequence", "digest" and "size" of the signed document, "files": [{"path",
"size", "sha256", "mediaType"}]}. Their copies stand among the replicas of the record, so they are looked at, put back and
prolonged like those of the present version. What is on the chain stays there; only bytes go.

Without `keepVersions` nothing of an earlier version is remembered: its copies run out with what was paid for them. A ledger that
is made again reads them off their documents, which name one another, as far as those can be had (kinds/adoption.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from reconciler.controller import Steps, ask
from reconciler.kinds.document import ENVELOPE_TYPE
from reconciler.kinds.network import Net, net_of
from reconciler.model.canonical import Json
from reconciler.model.change import Change, FieldDelta
from reconciler.model.effect import Release
from reconciler.model.record import Record

Version = Mapping[str, Any]


def _held(outputs: Mapping[str, Any], fresh: bool) -> list[Version]:
    """Every earlier version that may be kept after a change: the recorded ones, and the present one if another follows."""
    older: list[Version] = list(outputs.get("versions") or ())
    document = outputs.get("document")
    if not fresh or document is None:
        return older
    last = {name: document[name] for name in ("sequence", "digest", "size")}
    return [{**last, "files": [_file(file) for file in outputs["files"]]}, *older]


def stated(document: Mapping[str, Any], digest: str, size: int) -> Version:
    """The version that a signed manifest of a dataset states; `digest` and `size` are those of the document as it was sealed."""
    return {
        "sequence": document["sequence"],
        "digest": digest,
        "size": size,
        "files": [_file(file) for file in document["files"]],
    }


def whole(found: Sequence[Version], replicas: Mapping[str, Collection[str]]) -> list[Version]:
    """Those of which every host that keeps anything keeps everything, as it was when they were kept."""
    return [one for one in found if replicas and all(digests([one]) <= set(held) for held in replicas.values())]


def _file(file: Mapping[str, Json]) -> dict[str, Json]:
    return {name: file[name] for name in ("path", "size", "sha256", "mediaType")}


def kept(spec: Mapping[str, Json], outputs: Mapping[str, Any], fresh: bool) -> list[Version]:
    """The earlier versions that stay; `fresh` when the change makes another one the present."""
    most = spec.get("keepVersions")
    return [] if most is None else _held(outputs, fresh)[: int(most)]


def digests(found: Sequence[Version]) -> set[str]:
    """SHA-256 of everything they consist of."""
    return {one["digest"] for one in found} | {file["sha256"] for one in found for file in one["files"]}


def blobs(found: Sequence[Version]) -> list[dict[str, Json]]:
    """What they consist of, as file entries; each content once."""
    files = [file for one in found for file in one["files"]]
    papers = [{"path": "", "size": one["size"], "sha256": one["digest"], "mediaType": ENVELOPE_TYPE} for one in found]
    return list({str(entry["sha256"]): dict(entry) for entry in (*papers, *files)}.values())


def named(outputs: Mapping[str, Any]) -> dict[str, str]:
    """A readable name for each digest of an earlier version."""
    names: dict[str, str] = {}
    for one in reversed(outputs.get("versions") or ()):
        names |= {file["sha256"]: f"v{one['sequence']}.{file['path']}" for file in one["files"]}
        names[one["digest"]] = f"v{one['sequence']}.manifest"
    return names


def deltas(body: Mapping[str, Json], was: Record, fresh: bool) -> list[FieldDelta]:
    """The versions that a change of the manifest lets go."""
    most = body["spec"].get("keepVersions")
    going = [] if most is None else _held(was.outputs, fresh)[int(most) :]
    return [FieldDelta(f"versions.{one['sequence']}", "kept", "let go") for one in reversed(going)]


def let_go(change: Change, net: Net, needed: Collection[str]) -> Steps[dict[str, Json]]:
    """Ask every host that had copies of this dataset to remove what is `needed` no longer; {"leaving": what did not answer}.

    A host that is paid for a while only, and cannot remove anything, lets it lapse. One that is silent is asked again with the
    next change of the dataset: nothing waits for it.
    """
    before: Mapping[str, Any] = change.before.outputs if change.before is not None else {}
    if change.before is None or change.body["spec"].get("keepVersions") is None:
        return {}
    hosts = {host.name: host for host in (*net_of(change.before.body).storage, *net.storage)}
    had = {name: {*held, *(before.get("leaving") or {}).get(name, ())} for name, held in (before.get("replicas") or {}).items()}
    had |= {name: set(held) for name, held in (before.get("leaving") or {}).items() if name not in had}
    late: dict[str, list[str]] = {}
    for name in sorted(had.keys() & hosts.keys()):
        for sha256 in sorted(had[name] - set(needed)):
            said = yield from ask(Release(sha256, hosts[name], str(change.ref)))
            if said.get("late"):
                late.setdefault(name, []).append(sha256)
    return {"leaving": late} if late else {}
