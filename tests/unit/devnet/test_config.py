"""A config survives the trip through a command line; what makes no sense is refused with a hint."""

from pathlib import Path

import pytest

from reconciler.devnet.config import Config, arguments, parse, parser, seconds
from reconciler.devnet.world import Plan
from reconciler.model.errors import Refused

FULL = Config(
    Path("state"),
    Plan(7, (("north", "EU"), ("south", "")), (("disk", "US"),), ("taal", "gorilla"), 50, 9, True, 1.5, Path("files")),
    {"north": 8080, "control": 9000},
    8090,
    0.25,
)


@pytest.mark.parametrize("config", [Config(Path("here")), FULL], ids=["default", "full"])
def test_arguments_read_back_as_the_same_config(config: Config) -> None:
    assert parse(parser().parse_args(arguments(config))) == config


def test_ports_are_fixed_consecutive_or_free() -> None:
    assert [FULL.port(name) for name in FULL.names] == [8090, 8091, 8092, 8080, 8094, 8095, 9000]
    assert {Config(Path("here")).port(name) for name in Config(Path("here")).names} == {0}


@pytest.mark.parametrize(("text", "value"), [("500ms", 0.5), ("5s", 5.0), ("1.5m", 90.0), ("1h", 3600.0)])
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("words", [["--port", "arc"], ["--port", "arc=99999"], ["--port", "nobody=1"], ["--block-every", "5"]])
def test_nonsense_is_refused_with_a_hint(words: list[str]) -> None:
    with pytest.raises(Refused) as refusal:
        parse(parser().parse_args(["--state", "here", *words]))
    assert refusal.value.message.startswith("cannot") and refusal.value.hint
