"""Files to DesiredState, or every diagnostic at once.

    bytes -> documents (yaml) -> merged with patches (overlay) -> judged one by one (judge)
          -> linked (link) -> content files and the kind's own check -> DesiredState | diagnostics

Judgements are cached by the SHA-256 of their file, so that loading an unchanged repository again costs little more than
hashing it. The value a document was written as goes when it has been judged, file by file: ten thousand of them would take
more memory than all that is kept. Nothing is read but what is handed in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from reconciler.controller import Controller
from reconciler.manifest import overlay
from reconciler.manifest.fault import Fault, near, parse_pointer
from reconciler.manifest.judge import envelope, judge, name_of
from reconciler.manifest.link import Checked, Entry, Finding, Linked, Linker
from reconciler.manifest.place import Places
from reconciler.manifest.schema import Schema, Schemas
from reconciler.manifest.select import Chosen, choose
from reconciler.manifest.yaml import Document, parse
from reconciler.model.canonical import Json
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.errors import Refused
from reconciler.model.ref import Position, ResourceRef
from reconciler.model.resource import DesiredState, FileFact, Resource
from reconciler.model.shared import once

Facts = Callable[[str], Sequence[FileFact]]
_Key = tuple[tuple[str, int], ...]
# Cached judgements that were not used are dropped once they outnumber the used ones by this many.
_SPARE = 1000


@dataclass(frozen=True, slots=True)
class Loaded:
    """The outcome of one load. `desired` is None when there is any error.

    `documents` counts resources of the environment, `files` the manifests read. `filled` says, per
    resource, which omitted fields were given a value and where it came from.
    """

    desired: DesiredState | None
    diagnostics: tuple[Diagnostic, ...]
    documents: int
    files: int
    filled: Mapping[ResourceRef, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """What stops the revision."""
        return tuple(one for one in self.diagnostics if one.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """What is told and does not stop anything."""
        return tuple(one for one in self.diagnostics if one.severity is Severity.WARNING)


@dataclass(slots=True)
class _Graph:
    """All that does not depend on content files: good for as long as the manifests have these digests."""

    fingerprint: tuple[str, tuple[tuple[str, str], ...]]
    linked: list[Linked]
    documents: int
    diagnostics: tuple[Diagnostic, ...]
    filled: Mapping[ResourceRef, tuple[tuple[str, str], ...]]
    # By place in `linked`; only resources about which nothing was to be said.
    resources: dict[int, Resource] = field(default_factory=dict)


@dataclass(slots=True)
class _Read:
    """One document as far as it can be understood alone.

    `ref` is None where it names nothing that could be judged; `faults` are then all there is to say. `value` is there until
    the document has been judged, and `checked` from then on, but not where a patch came over it.
    """

    ordinal: int
    line: int
    column: int
    ref: ResourceRef | None
    faults: tuple[Fault, ...]
    value: Json = None
    checked: Checked | None = None


class _Written(NamedTuple):
    """A document that names a resource, where it stands."""

    ref: ResourceRef
    file: str
    digest: str
    read: _Read
    at: Position


class Loader:
    """Loads manifests of the given kinds. Keeps what it learned about each file by the digest of its bytes."""

    def __init__(self, kinds: Mapping[str, Controller], schemas: Mapping[str, Json] | None = None) -> None:
        self.kinds = kinds
        self.schemas: Mapping[str, Schema] = Schemas(kinds, schemas)
        self._parsed: dict[str, tuple[tuple[_Read, ...], tuple[Fault, ...]]] = {}
        # Of documents that lie over others, by the digests and ordinals of the layers.
        self._merged: dict[_Key, Checked] = {}
        self._graph: _Graph | None = None
        self._chosen: Chosen = {}

    def load(self, texts: Mapping[str, bytes], facts: Facts, revision: str, environment: str = "") -> Loaded:
        """Load one environment ("" is the base alone). `facts` lists the content files that match a glob."""
        base, patches = overlay.split(texts, environment)
        digests = tuple((file, hashlib.sha256(texts[file]).hexdigest()) for file in (*base, *patches))
        graph = self._graph
        if graph is None or graph.fingerprint != (environment, digests):
            graph = self._graph = _Linking(self, texts, environment, dict(digests)).graph(base, patches)
        finish = _Finishing(self.kinds, texts, facts)
        resources, doubts = choose(finish.resources(graph), self.kinds, self._chosen)
        finish.doubt(graph, doubts)
        found = (*graph.diagnostics, *finish.diagnostics)
        diagnostics = tuple(sorted(found, key=lambda one: (*one.order, one.message)))
        failed = any(one.severity is Severity.ERROR for one in diagnostics)
        desired = None if failed else DesiredState(revision, environment, resources)
        return Loaded(desired, diagnostics, graph.documents, len(digests), graph.filled)

    def parsed(self, digest: str, data: bytes) -> tuple[tuple[_Read, ...], tuple[Fault, ...]]:
        """Documents and unreadable places of one file, from the cache if its bytes are known."""
        found = self._parsed.get(digest)
        if found is None:
            documents, broken = parse(data)
            found = self._parsed[digest] = tuple(map(self._read, documents)), broken
        return found

    def _read(self, document: Document) -> _Read:
        ref, outer, faults = name_of(document.value), envelope(document.value, self.schemas), document.faults
        if outer or ref is None:
            told = outer or judge(document.value, self.schemas[document.value["kind"]]).faults
            return _Read(document.ordinal, *document.at, None, (*faults, *told))
        return _Read(document.ordinal, *document.at, ref, faults, document.value)

    def merged(self, key: _Key, kind: str, value: Callable[[], Json], earlier: tuple[Fault, ...]) -> Checked:
        """The judgement of one merged document; `key` are the digests and ordinals it was merged from."""
        found = self._merged.get(key)
        if found is None:
            found = self._merged[key] = judge(value(), self.schemas[kind], earlier)
        return found

    def forget(self, digests: set[str], keys: set[_Key]) -> None:
        """Drop what a load did not use, once there is enough of it."""
        if len(self._merged) > len(keys) + _SPARE or len(self._parsed) > len(digests) + _SPARE:
            self._parsed = {digest: found for digest, found in self._parsed.items() if digest in digests}
            self._merged = {key: found for key, found in self._merged.items() if key in keys}


class _Linking:
    """From bytes to linked entries, gathering diagnostics."""

    def __init__(self, loader: Loader, texts: Mapping[str, bytes], environment: str, digests: Mapping[str, str]) -> None:
        self._loader, self._texts, self._environment, self._digests = loader, texts, environment, digests
        self._places = Places(texts)
        self._diagnostics: list[Diagnostic] = []
        self._keys: set[_Key] = set()
        # The values of files that were judged in an earlier load, where a patch of this one needs them again.
        self._again: dict[str, dict[int, Json]] = {}

    def graph(self, base: Sequence[str], patches: Sequence[str]) -> _Graph:
        if self._environment and not patches:
            self._unknown_environment()
        entries = self._entries(self._written(base), self._written(patches))
        linker = Linker(entries, self._loader.schemas, self._loader.kinds)
        linked = linker.link()
        findings = [Finding(entry, fault) for entry in entries.values() for fault in entry.checked.faults]
        self._diagnostics += [self._places.found(finding) for finding in (*findings, *linker.findings)]
        self._loader.forget(set(self._digests.values()), self._keys)
        return _Graph(
            fingerprint=(self._environment, tuple(self._digests.items())),
            linked=linked,
            documents=len(entries),
            diagnostics=tuple(self._diagnostics),
            filled={one.entry.ref: one.filled for one in linked if one.filled},
        )

    def _unknown_environment(self) -> None:
        known = overlay.environments(self._texts)
        hint = f"known: {', '.join(known)}" if known else f"there is no directory {overlay.FOLDER}/{self._environment}"
        meant = near(self._environment, known)
        at = Position(f"{overlay.FOLDER}/{self._environment}", 1, 1)
        hint = f'did you mean "{meant}"? {hint}' if meant else hint
        self._diagnostics.append(Diagnostic(Severity.ERROR, "E0310", f'unknown environment "{self._environment}"', at, hint=hint))

    def _written(self, files: Sequence[str]) -> Iterator[_Written]:
        """Every document that names a resource; of the others, and of second ones of a name, what is wrong is told."""
        first: dict[ResourceRef, Position] = {}
        for file in files:
            digest = self._digests[file]
            reads, broken = self._loader.parsed(digest, self._texts[file])
            for fault in broken:
                self._diagnostics.append(self._places.diagnostic(fault, ((file, 0),)))
            for read in reads:
                layers = ((file, read.ordinal),)
                if read.ref is None:
                    self._diagnostics += [self._places.diagnostic(fault, layers) for fault in read.faults]
                    continue
                at = Position(file, read.line, read.column, "/metadata/name")
                known = first.setdefault(read.ref, at)
                if known is at:
                    yield _Written(read.ref, file, digest, read, at)
                    continue
                read.value = None
                fault = Fault(
                    "E0301", f"{read.ref} is declared twice", ("metadata", "name"), f"first at {known.file}:{known.line}"
                )
                self._diagnostics.append(self._places.diagnostic(fault, layers, ((known, "first declared here"),)))

    def _entries(self, base: Iterator[_Written], patches: Iterator[_Written]) -> dict[ResourceRef, Entry]:
        changes = {patch.ref: patch for patch in patches}
        entries: dict[ResourceRef, Entry] = {}
        for written in base:
            patch = changes.pop(written.ref, None)
            entries[written.ref] = self._merged(patch, written) if patch else self._plain(written)
        for ref, patch in changes.items():
            entry = self._merged(patch)
            if not entry.checked.sound:
                meant = near(str(ref), map(str, entries))
                hint = f"did you mean {meant}?" if meant else "a new resource must be complete"
                fault = Fault("E0311", f"{ref} does not exist in the base, and this is not complete", ("metadata", "name"), hint)
                self._diagnostics.append(self._places.found(Finding(entry, fault)))
            entries[ref] = entry
        return entries

    def _plain(self, written: _Written) -> Entry:
        """A document that nothing lies over."""
        ref, read = written.ref, written.read
        if read.checked is None:
            read.checked = judge(self._value(written), self._loader.schemas[ref.kind], read.faults)
            read.value = None
        return Entry(ref, read.checked, ((written.file, read.ordinal),), written.at)

    def _merged(self, patch: _Written, base: _Written | None = None) -> Entry:
        """A patch over its base, or over nothing."""
        layers = (patch, base) if base else (patch,)
        ref = patch.ref

        def value() -> Json:
            return overlay.merge(self._value(base) if base else {}, self._value(patch))

        key = tuple((one.digest, one.read.ordinal) for one in layers)
        self._keys.add(key)
        checked = self._loader.merged(key, ref.kind, value, tuple(fault for one in layers for fault in one.read.faults))
        for one in layers:
            one.read.value = None
        return Entry(ref, checked, tuple((one.file, one.read.ordinal) for one in layers), layers[-1].at)

    def _value(self, written: _Written) -> Json:
        """What the document says; read once more where it was judged in an earlier load."""
        if written.read.value is not None:
            return written.read.value
        if written.file not in self._again:
            documents, _ = parse(self._texts[written.file])
            self._again[written.file] = {document.ordinal: document.value for document in documents}
        return self._again[written.file][written.read.ordinal]


class _Finishing:
    """From linked entries to resources: content files, and what only the kind can check."""

    def __init__(self, kinds: Mapping[str, Controller], texts: Mapping[str, bytes], facts: Facts) -> None:
        self._kinds, self._facts = kinds, facts
        self._places = Places(texts)
        self._matches: dict[str, Sequence[FileFact] | str] = {}
        self.diagnostics: list[Diagnostic] = []

    def resources(self, graph: _Graph) -> dict[ResourceRef, Resource]:
        made = {}
        for place, linked in enumerate(graph.linked):
            if not linked.entry.checked.sound:
                continue
            faults: list[Fault] = []
            files = self._files(linked, faults)
            resource = graph.resources.get(place)
            if resource is None or resource.files != files or faults:
                resource = self._resource(linked, files)
                # A kind that misses its files would only say again what has been said.
                for where, message, *hint in () if faults else self._kinds[resource.ref.kind].check(resource):
                    faults.append(Fault("E0401", message, ("spec", *parse_pointer(where)), hint[0] if hint else None))
                if not faults:
                    graph.resources[place] = resource
            self.diagnostics += [self._places.found(Finding(linked.entry, fault)) for fault in faults]
            made[resource.ref] = resource
        return made

    def doubt(self, graph: _Graph, doubts: Sequence[tuple[ResourceRef, Fault]]) -> None:
        """Add faults that lie between resources, each where the resource is written."""
        entries = {one.entry.ref: one.entry for one in graph.linked} if doubts else {}
        self.diagnostics += [self._places.found(Finding(entries[ref], fault)) for ref, fault in doubts]

    @staticmethod
    def _resource(linked: Linked, files: tuple[FileFact, ...]) -> Resource:
        entry = linked.entry
        return Resource(
            ref=entry.ref,
            spec=linked.spec,
            at=entry.at,
            requires=once(frozenset(ResourceRef(link.kind, link.name) for link in linked.links if not link.weak)),
            lifecycle=entry.checked.lifecycle,
            labels=entry.checked.labels,
            files=files,
            renamed_from=ResourceRef(entry.ref.kind, entry.checked.renamed_from) if entry.checked.renamed_from else None,
        )

    def _files(self, linked: Linked, faults: list[Fault]) -> tuple[FileFact, ...]:
        found: dict[str, FileFact] = {}
        for pattern in self._kinds[linked.entry.ref.kind].content(linked.spec):
            if pattern not in self._matches:
                try:
                    self._matches[pattern] = self._facts(pattern)
                except Refused as refused:
                    self._matches[pattern] = refused.message
            matches = self._matches[pattern]
            if isinstance(matches, str):
                faults.append(Fault("E0403", matches, ("spec", *_mention(linked.spec, pattern))))
            elif not matches:
                hint = "paths are relative to the root of the repository"
                faults.append(Fault("E0402", f'no file matches "{pattern}"', ("spec", *_mention(linked.spec, pattern)), hint))
            else:
                found |= {fact.path: fact for fact in matches}
        if len(found) < 2:
            return tuple(found.values())
        return tuple(found[path] for path in sorted(found))


def _mention(spec: Json, pattern: str) -> tuple[str | int, ...]:
    """The path of the text in a spec that names a content pattern, or begins it."""
    best: tuple[str | int, ...] = ()
    weight = 0
    stack: list[tuple[tuple[str | int, ...], Json]] = [((), spec)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, Mapping):
            stack += [((*path, key), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            stack += [((*path, index), inner) for index, inner in enumerate(value)]
        elif isinstance(value, str) and len(value) > weight and (pattern == value or pattern.startswith(value + "/")):
            best, weight = path, len(value)
    return best
