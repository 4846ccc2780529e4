"""References resolved: defaults filled from their sources, dangling names and circles found.

Works on checked documents (`Entry`) and yields findings without line numbers; load.py finds the places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconciler.controller import Controller
from reconciler.manifest.fault import Fault, Path, listed, near, parse_pointer
from reconciler.manifest.normalise import Link
from reconciler.manifest.schema import Inherit, Schema
from reconciler.model.canonical import Json
from reconciler.model.ref import Position, ResourceRef
from reconciler.model.resource import Lifecycle
from reconciler.model.shared import once


@dataclass(frozen=True, slots=True)
class Checked:
    """A document judged by itself: normalised, with its references and its faults."""

    spec: Mapping[str, Json]
    lifecycle: Lifecycle
    labels: Mapping[str, str]
    links: tuple[Link, ...]
    faults: tuple[Fault, ...]
    sound: bool
    renamed_from: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One resource and where it is written: `layers` are (file, ordinal of the document), the topmost patch first."""

    ref: ResourceRef
    checked: Checked
    layers: tuple[tuple[str, int], ...]
    at: Position


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of an entry, with the other ends of a conflict."""

    entry: Entry
    fault: Fault
    related: tuple[tuple[Entry, Path, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Linked:
    """An entry with every omitted field filled, and what it refers to. `filled` are (pointer, where the value came from)."""

    entry: Entry
    spec: Mapping[str, Json]
    links: tuple[Link, ...]
    filled: tuple[tuple[str, str], ...]


class Linker:
    """One pass over all resources of an environment."""

    def __init__(
        self, entries: Mapping[ResourceRef, Entry], schemas: Mapping[str, Schema], kinds: Mapping[str, Controller]
    ) -> None:
        self._entries = entries
        self._schemas = schemas
        self._kinds = kinds
        self._by_kind: dict[str, list[ResourceRef]] = {}
        for ref in entries:
            self._by_kind.setdefault(ref.kind, []).append(ref)
        self.findings: list[Finding] = []

    def link(self) -> list[Linked]:
        """Every entry, linked; what is wrong is in `findings`."""
        linked = [self._entry(entry) for entry in self._entries.values()]
        self._circles(linked)
        self._renames()
        return linked

    def _entry(self, entry: Entry) -> Linked:
        schema = self._schemas[entry.ref.kind]
        links = list(entry.checked.links)
        for link in links:
            if ResourceRef(link.kind, link.name) not in self._entries:
                self.findings.append(Finding(entry, self._dangling(entry.ref, link)))
        spec, filled = dict(entry.checked.spec), []
        for field, kind, weak in schema.sole:
            if field not in spec and entry.checked.sound:
                found = self._by_kind.get(kind, [])
                if len(found) != 1:
                    self.findings.append(Finding(entry, self._no_default(entry.ref, field, kind, found)))
                    continue
                spec[field] = found[0].name
                links.append(Link(("spec", field), kind, found[0].name, weak))
                filled.append((f"/spec/{field}", f"the only {kind}"))
        for rule in schema.inherits:
            if rule.field not in spec and not any(other in spec for other in rule.unless):
                self._inherit(rule, entry, spec, links, filled)
        for field, via, source in schema.aliases:
            self._unalias(field, via, source, entry, spec, filled)
        if entry.checked.sound:
            links += self._named_by_kind(entry, spec, links)
        return Linked(entry, spec if filled else entry.checked.spec, once(tuple(links)), tuple(filled))

    def _unalias(
        self, field: str, via: str, source: str, entry: Entry, spec: dict[str, Json], filled: list[tuple[str, str]]
    ) -> None:
        """Dotted entries become the names they stand for, so that both spellings are one spec."""
        written = spec.get(field)
        if not entry.checked.sound or not written or not any("." in name for name in written):
            return
        kind = next((kind for other, kind, _ in self._schemas[entry.ref.kind].sole if other == via), "")
        target = self._entries.get(ResourceRef(kind, str(spec.get(via))))
        known = target.checked.spec.get(source, {}) if target else {}
        for index, name in enumerate(written):
            if "." in name and name not in known and target is not None:
                meant = near(name, known)
                hint = f'did you mean "{meant}"?' if meant else f"add it to {source} of {target.ref}, or write the full name"
                fault = Fault("E0315", f'{target.ref} does not say what "{name}" stands for', ("spec", field, index), hint)
                self.findings.append(Finding(entry, fault))
            elif name in known:
                filled.append((f"/spec/{field}/{index}", f'{target.ref if target else ""} {source} "{name}"'))
        spec[field] = list(dict.fromkeys(known.get(name, name) for name in written))

    def _inherit(
        self, rule: Inherit, entry: Entry, spec: dict[str, Json], links: list[Link], filled: list[tuple[str, str]]
    ) -> None:
        kind = next((link.kind for link in links if link.path == ("spec", rule.via)), None)
        source = self._entries.get(ResourceRef(kind, str(spec.get(rule.via)))) if kind else None
        if source is None:
            return
        value: Json = source.checked.spec
        for part in rule.source.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            return
        spec[rule.field] = value
        filled.append((f"/spec/{rule.field}", f"{source.ref} {rule.source} ({source.at.file}:{source.at.line})"))
        # A dangling default is reported once, where it is written.
        if rule.kind is not None and ResourceRef(rule.kind, value) in self._entries:
            links.append(Link(("spec", rule.field), rule.kind, value))

    def _named_by_kind(self, entry: Entry, spec: Mapping[str, Json], links: Sequence[Link]) -> Iterator[Link]:
        """What the controller names beyond the schema's annotations."""
        known = {(link.kind, link.name) for link in links if not link.weak}
        named = {(link.kind, link.name) for link in links}
        for where, kind, name in self._kinds[entry.ref.kind].references(spec):
            if (kind, name) in known:
                continue
            link = Link(("spec", *parse_pointer(where)), kind, name)
            if ResourceRef(kind, name) not in self._entries and (kind, name) not in named:
                self.findings.append(Finding(entry, self._dangling(entry.ref, link)))
            yield link

    def _dangling(self, ref: ResourceRef, link: Link) -> Fault:
        message = f'{ref} refers to {link.kind} "{link.name}", which does not exist'
        names = {other.name: other for other in self._by_kind.get(link.kind, [])}
        meant = near(link.name, names)
        if meant:
            at = self._entries[names[meant]].at
            hint = f'did you mean "{meant}" ({at.file}:{at.line})?'
        elif link.kind not in self._kinds:
            kind = near(link.kind, self._kinds)
            hint = f'did you mean kind "{kind}"?' if kind else f"this version has no kind {link.kind}"
        else:
            other = next((one for one in self._entries if one.name == link.name), None)
            hint = f'"{link.name}" is of kind {other.kind}' if other else f"declare {link.kind}/{link.name}, or name another"
        return Fault("E0312", message, link.path, hint)

    def _no_default(self, ref: ResourceRef, field: str, kind: str, found: Sequence[ResourceRef]) -> Fault:
        if not found:
            return Fault("E0313", f"{ref} needs a {kind}, and there is none", ("spec", field), hint=f"declare a {kind}")
        names = sorted(other.name for other in found)
        shown = listed([f'"{name}"' for name in names[:5]]) + (" ..." if len(names) > 5 else "")
        return Fault(
            "E0313",
            f"{ref} does not say which {kind} it uses, and there are {len(names)}",
            ("spec", field),
            hint=f"set {field}: {shown}",
        )

    def _renames(self) -> None:
        """Report names that were left and are still taken: by another resource, or by two that both claim the record."""
        heirs: dict[ResourceRef, Entry] = {}
        for ref, entry in self._entries.items():
            if entry.checked.renamed_from is None:
                continue
            path, old = ("metadata", "renamedFrom"), ResourceRef(ref.kind, entry.checked.renamed_from)
            if old in self._entries:
                holder = self._entries[old]
                message = f"{ref} cannot be renamed from {old}, which is declared itself"
                hint = "take renamedFrom out, or remove the other; two that change names take two steps"
                ends = () if old == ref else ((holder, ("metadata", "name"), "declared here"),)
                self.findings.append(Finding(entry, Fault("E0302", message, path, hint), ends))
            elif (first := heirs.setdefault(old, entry)) is not entry:
                fault = Fault("E0302", f"{first.ref} and {ref} are both renamed from {old}", path, "only one of them can be")
                self.findings.append(Finding(entry, fault, ((first, path, "first claimed here"),)))

    def _circles(self, linked: Sequence[Linked]) -> None:
        """Report every circle once, edge by edge. First all that is free of circles is taken away (Kahn)."""
        if not _kinds_may_circle(linked):
            return
        needs = {
            one.entry.ref: {
                target: link
                for link in one.links
                if not link.weak and (target := ResourceRef(link.kind, link.name)) in self._entries
            }
            for one in linked
        }
        waiting = {ref: len(targets) for ref, targets in needs.items()}
        dependents: dict[ResourceRef, list[ResourceRef]] = {}
        for ref, targets in needs.items():
            for target in targets:
                dependents.setdefault(target, []).append(ref)
        free = [ref for ref, count in waiting.items() if not count]
        while True:
            while free:
                done = free.pop()
                del waiting[done]
                for ref in dependents.get(done, ()):
                    if ref in waiting:
                        waiting[ref] -= 1
                        if not waiting[ref]:
                            free.append(ref)
            if not waiting:
                return
            circle = _come_round(needs, waiting)
            self._report(circle, needs)
            # A reported circle is as good as resolved; what only hangs on it is no circle of its own.
            waiting |= dict.fromkeys(circle, 0)
            free = list(circle)

    def _report(self, circle: list[ResourceRef], needs: Mapping[ResourceRef, Mapping[ResourceRef, Link]]) -> None:
        start = circle.index(min(circle))
        circle = circle[start:] + circle[:start]
        edges = list(zip(circle, circle[1:] + circle[:1], strict=True))
        related = tuple((self._entries[ref], needs[ref][target].path, f"{ref} needs {target}") for ref, target in edges)
        message = f"resources need each other in a circle: {' -> '.join(map(str, [*circle, circle[0]]))}"
        fault = Fault("E0314", message, related[0][1], hint="remove one of these references")
        self.findings.append(Finding(self._entries[circle[0]], fault, related))


def _come_round(needs: Mapping[ResourceRef, Mapping[ResourceRef, Link]], among: Mapping[ResourceRef, int]) -> list[ResourceRef]:
    """Follow needs inside `among`, where each has one, until a resource comes round again."""
    trail: dict[ResourceRef, int] = {}
    here = min(among)
    while here not in trail:
        trail[here] = len(trail)
        here = min(ref for ref in needs[here] if ref in among)
    return list(trail)[trail[here] :]


def _kinds_may_circle(linked: Sequence[Linked]) -> bool:
    """Whether the kinds need each other in a circle at all; they rarely do, and then no resource can."""
    needs: dict[str, set[str]] = {}
    for one in linked:
        kinds = needs.setdefault(one.entry.ref.kind, set())
        kinds.update(link.kind for link in one.links if not link.weak)
    while needs:
        free = [kind for kind, kinds in needs.items() if not kinds & needs.keys()]
        if not free:
            return True
        for kind in free:
            del needs[kind]
    return False
