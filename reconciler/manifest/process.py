"""The process settings file: the same strict YAML, the same schema language and the same diagnostics as a manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache

from reconciler.manifest.normalise import Out, compile_plan
from reconciler.manifest.place import Places
from reconciler.manifest.schema import Schema, folder
from reconciler.manifest.sentences import sentences
from reconciler.manifest.yaml import parse
from reconciler.model.canonical import Json
from reconciler.model.diagnostic import Diagnostic

_FILE = "reconciler.schema.json"


@cache
def settings_schema() -> Json:
    """The schema of reconciler.yaml, from the package or from a source checkout."""
    return json.loads((folder() / _FILE).read_text("utf-8"))


def read_settings(data: bytes, file: str, shape: Callable[[], Json]) -> tuple[Mapping[str, Json], tuple[Diagnostic, ...]]:
    """The settings with every default filled in and every unit canonical, or all that is wrong with the file.

    `shape` gives the schema of what policies judge; it is asked only when there are any.
    """
    import jsonschema_rs

    from reconciler.manifest.ruling import concerned, rulings

    document = settings_schema()
    plan = compile_plan(document, document)
    parsed, broken = parse(data)
    places = Places({file: data})
    faults = [(fault, 0) for fault in broken]
    value: Json = parsed[0].value if parsed else {}
    if parsed:
        faults += [(fault, parsed[0].ordinal) for fault in parsed[0].faults]
    is_valid = jsonschema_rs.Draft202012Validator(document).is_valid
    if not is_valid(value):
        schema = Schema("settings", document, is_valid, _validator, plan, plan, (), ())
        faults += [(fault, 0) for fault in sentences(schema, value)]
    elif concerned(value):
        faults += [(fault, 0) for fault in rulings(value, shape())]
    out = Out()
    settings = plan(value, (), out)
    faults += [(fault, 0) for fault in out.faults]
    found = sorted((places.diagnostic(fault, [(file, ordinal)]) for fault, ordinal in faults), key=lambda d: d.order)
    return (settings if isinstance(settings, dict) else {}), tuple(found)


def _validator() -> Json:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(settings_schema())
