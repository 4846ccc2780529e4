"""Every decoder of the wire, found by its name, and how to make arguments for it from what a fuzzer gives.

A decoder is a public function below reconciler/wire whose name begins as below, or is listed by name. What it takes is read from
its annotations: a new decoder is fuzzed from the day it is written, and one that takes something unheard of fails the suite.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Protocol

import reconciler.wire
from reconciler.model.errors import RemoteProtocolError
from reconciler.wire.bump import bump_json, parse_bump
from reconciler.wire.bytesio import Reader
from reconciler.wire.keys import wif_encode
from reconciler.wire.tx import TxOut, extended
from tests.property.test_wire_formats import DECODERS, MINED, SIGNED

STARTS = ("parse_", "read_", "open_", "decode_")
BY_NAME = frozenset(
    {
        "bump.bump_from_json", "bundle.verify_bundle", "keys.base58check_decode", "keys.wif_decode", "message.verify_message",
        "receipt.verify_receipt", "script.pushes",
    }
)  # fmt: skip
# HTTP statuses that mean something to one decoder or another.
STATUSES = (200, 201, 202, 204, 400, 401, 402, 403, 404, 409, 422, 429, 460, 461, 465, 466, 469, 475, 500, 503)
MEDIA = ("application/json", "application/octet-stream", "text/plain", "application/json; charset=utf-8", "")


class Source(Protocol):
    """What a fuzzer gives, by type. `words` are the member names and other texts that the decoder's own file knows."""

    def bytes(self, words: tuple[str, ...]) -> bytes: ...
    def text(self, words: tuple[str, ...]) -> str: ...
    def integer(self, choices: tuple[int, ...]) -> int: ...
    def headers(self, words: tuple[str, ...]) -> dict[str, str]: ...
    def json(self, words: tuple[str, ...]) -> Any: ...


@cache
def decoders() -> Mapping[str, Callable[..., Any]]:
    """All of them, as `file.function`."""
    found = {}
    for file in pkgutil.iter_modules(reconciler.wire.__path__):
        module = importlib.import_module(f"reconciler.wire.{file.name}")
        for name, value in vars(module).items():
            full = f"{file.name}.{name}"
            if inspect.isfunction(value) and value.__module__ == module.__name__ and (name.startswith(STARTS) or full in BY_NAME):
                found[full] = value
    return found


@cache
def words_of(name: str) -> tuple[str, ...]:
    """The short texts that the decoder's file and its neighbours in it speak of: members, marks, media types."""
    tree = ast.parse(inspect.getsource(inspect.getmodule(decoders()[name])))  # type: ignore[arg-type]
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return tuple(sorted(text for text in texts if 0 < len(text) <= 40 and " " not in text and "\n" not in text))


def feed(name: str, source: Source) -> bool:
    """Call the decoder with what the source gives; whether it accepted that. Anything but RemoteProtocolError leaves."""
    decoder, words = decoders()[name], words_of(name)
    arguments = [
        argument(source, one.annotation, one.name, words)
        for one in inspect.signature(decoder).parameters.values()
        if one.default is inspect.Parameter.empty
    ]
    try:
        decoder(*arguments)
    except RemoteProtocolError as fault:
        assert fault.message.startswith("cannot "), fault.message
        return False
    return True


def argument(source: Source, annotation: str, name: str, words: tuple[str, ...]) -> Any:
    """A value of that annotation; the name tells a status from a height and a media type from other texts."""
    if annotation == "bytes":
        return source.bytes(words)
    if annotation == "Reader":
        return Reader(source.bytes(words))
    if annotation == "int":
        return source.integer(STATUSES if "status" in name else (0, 1, 5, 900_000))
    if annotation == "str":
        return source.text(MEDIA if name == "content_type" else words)
    if annotation == "Mapping[str, str]":
        return source.headers(words)
    if annotation == "Json":
        return source.json(words)
    raise AssertionError(f"a decoder takes {name}: {annotation}, which no fuzzer here can make")


@cache
def samples() -> tuple[bytes, ...]:
    """Honest bytes of every format, smaller ones first: what mutation begins with."""
    core = [
        MINED.tx.raw,
        MINED.proof,
        MINED.beef,
        MINED.header.raw,
        SIGNED,
        json.dumps(bump_json(parse_bump(MINED.proof))).encode(),
    ]
    core += [extended(MINED.tx, [TxOut(5, b"\x51")] * len(MINED.tx.inputs)), MINED.beef.hex().encode()]
    core += [wif_encode(bytes(31) + b"\x01", "main").encode()]
    return tuple(sorted({*core, *(sample for _, sample in DECODERS.values())}, key=lambda sample: (len(sample), sample)))


class Fed:
    """A source over the bytes of a coverage-guided fuzzer: small choices come from the front, the rest is the content."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def bytes(self, words: tuple[str, ...]) -> bytes:
        taken, self.data = self.data, b""
        return taken

    def text(self, words: tuple[str, ...]) -> str:
        at = self.integer(tuple(range(256)))
        if at < 128 and words:
            return words[at % len(words)]
        head, _, self.data = self.data.partition(b"\n")
        return head.decode("utf-8", "replace")

    def integer(self, choices: tuple[int, ...]) -> int:
        head, self.data = self.data[:1], self.data[1:]
        return choices[head[0] % len(choices)] if head else choices[0]

    def headers(self, words: tuple[str, ...]) -> dict[str, str]:
        head, _, self.data = self.data.partition(b"\n\n")
        pairs = [line.partition(":") for line in head.decode("utf-8", "replace").split("\n")]
        named = {str(number): word for number, word in enumerate(words)}
        return {named.get(name, name).strip().lower(): value.strip() for name, _, value in pairs if name}

    def json(self, words: tuple[str, ...]) -> Any:
        try:
            return json.loads(self.bytes(words))
        except (ValueError, RecursionError):
            return None
