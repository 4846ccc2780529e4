"""What a schema refuses, in plain sentences at the node that is at fault.

Only rejected documents come here; acceptance is decided by the compiled validator (schema.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from reconciler.manifest.fault import Fault, Path, listed, near
from reconciler.manifest.units import CODES, EXAMPLES
from reconciler.model.canonical import Json

if TYPE_CHECKING:
    from jsonschema import ValidationError

    from reconciler.manifest.schema import Schema

_TYPES = {
    "string": "text", "integer": "a whole number", "boolean": "true or false",
    "array": "a list", "object": "a mapping", "null": "null",
}  # fmt: skip
# Beside a good guess, longer lists of fields only hide it.
_FEW = 8
_BOUNDS = {
    "minimum": "must be at least {}", "maximum": "must be at most {}",
    "minLength": "must not be shorter than {} characters", "maxLength": "must not be longer than {} characters",
    "minItems": "needs at least {} entries", "maxItems": "may have at most {} entries",
    "minProperties": "needs at least {} entries", "maxProperties": "may have at most {} entries",
}  # fmt: skip


def sentences(schema: Schema, value: Json) -> list[Fault]:
    """Every fault of a document that the compiled schema refuses; never empty."""
    faults = [fault for error in schema.validator().iter_errors(value) for fault in _faults(error)]
    if faults:
        return faults
    # Two validators of one standard should agree; where they do not, the stricter one is told as it speaks.
    import jsonschema_rs

    errors = jsonschema_rs.Draft202012Validator(schema.document).iter_errors(value)
    return [Fault("E0111", str(error.message), tuple(error.instance_path)) for error in errors]


def _faults(error: ValidationError) -> Iterator[Fault]:
    path: Path = tuple(error.absolute_path)
    schema: dict[str, Any] = error.schema if isinstance(error.schema, dict) else {}
    says, subject = schema.get("x-says"), _subject(path)
    keyword = error.validator
    wanted: Json = error.validator_value
    value: Json = error.instance
    if keyword == "additionalProperties":
        yield from _unknown(path, value, list(schema.get("properties", {})))
    elif keyword == "required":
        name = next(name for name in wanted if name not in value and f"'{name}'" in error.message)
        hint = schema.get("properties", {}).get(name, {}).get("description")
        yield Fault("E0108", f'missing field "{name}"', (*path, name), hint=hint)
    elif keyword == "type":
        yield _type(path, subject, wanted, value, schema)
    elif keyword in ("enum", "const"):
        choices = [str(choice) for choice in (wanted if keyword == "enum" else [wanted])]
        meant = near(str(value), choices)
        hint = f'did you mean "{meant}"?' if meant else f"possible: {listed(choices)}"
        yield Fault("E0110", f"{subject} cannot be {_shown(value)}; it is {listed(choices)}", path, hint=hint)
    elif keyword in ("oneOf", "anyOf", "not"):
        yield Fault("E0112", f"{subject} wants {says}" if says else f"{subject} fits none of its forms", path, on_key=True)
    elif keyword in _BOUNDS:
        yield Fault("E0111", f"{subject} {_BOUNDS[keyword].format(wanted)}", path)
    elif keyword == "uniqueItems":
        twice = next((index for index, item in enumerate(value) if item in value[:index]), 0)
        yield Fault("E0111", f"{subject} names {_shown(value[twice])} twice", (*path, twice))
    else:
        yield Fault("E0111", f"{_shown(value)} is not {says}" if says else f"{subject}: {error.message}", path)


def _unknown(path: Path, value: dict[str, Json], expected: list[str]) -> Iterator[Fault]:
    for name in value:
        if name in expected:
            continue
        if name == "status" and not path:
            hint = "remove it; status is what was observed, see: reconciler get -o yaml"
            yield Fault("E0113", "status is never written in a file", ("status",), hint, on_key=True)
            continue
        meant = near(name, expected)
        hint = f"expected one of: {', '.join(expected)}" if expected else "nothing may stand here"
        if meant:
            hint = f'did you mean "{meant}"?' + (f" {hint}" if len(expected) <= _FEW else "")
        yield Fault("E0107", f'unknown field "{name}"', (*path, name), hint, on_key=True)


def _type(path: Path, subject: str, wanted: str | list[str], value: Json, schema: dict[str, Any]) -> Fault:
    names = [wanted] if isinstance(wanted, str) else wanted
    given = next(text for kind, text in _KINDS if isinstance(value, kind))
    if "x-unit" in schema:
        unit = schema["x-unit"]
        return Fault(CODES[unit], f"{subject} is a {unit}, not {given}", path, hint=f"write {EXAMPLES[unit]}")
    hint = None
    if "string" in names and isinstance(value, (int, bool)):
        hint = f'quote it: "{str(value).lower() if isinstance(value, bool) else value}"'
    elif "boolean" in names and isinstance(value, str):
        hint = "write true or false; yes, no, on and off are text"
    elif "array" in names:
        hint = f"write [{value}]" if isinstance(value, (str, int)) else None
    elif value is None:
        hint = "give it a value or remove the key"
    return Fault("E0109", f"{subject} must be {listed([_TYPES.get(name, name) for name in names])}, not {given}", path, hint=hint)


_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"), (int, "a number"), (str, "text"), (list, "a list"), (dict, "a mapping"), (type(None), "nothing"),
)  # fmt: skip


def _subject(path: Path) -> str:
    names = [part for part in path if isinstance(part, str)]
    if not names:
        return "the document"
    return f'an entry of "{names[-1]}"' if isinstance(path[-1], int) else f'"{names[-1]}"'


def _shown(value: Json) -> str:
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = f'"{value}"' if isinstance(value, str) else str(value).lower()
    return text if len(text) <= 60 else text[:57] + '..."'
