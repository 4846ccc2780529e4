import pytest

from reconciler.manifest import units


@pytest.mark.parametrize(
    ("unit", "spellings", "stored"),
    [
        ("duration", [1000, "1000", "1000ms", "1s", "PT1S", "PT1.0S", "1.0s"], 1000),
        ("duration", ["7d", "1w", "P7D", "P1W", "168h", "PT168H", "6d24h"], 604_800_000),
        ("duration", ["1h30m", "90m", "PT1H30M", "PT90M", "1.5h"], 5_400_000),
        ("duration", ["0s", 0, "PT0S"], 0),
        ("size", ["100MB", "100 MB", 100_000_000, "100000kB", "0.1GB"], 100_000_000),
        ("size", ["8MiB", "8192KiB", 8_388_608, "8388608B"], 8_388_608),
        ("satoshis", ["25sat", "25 sat", 25, "25", "25sats", "25satoshis"], 25),
        ("percent", ["99.9%", "99.90%", "099.9 %"], "99.9%"),
        ("percent", ["5%", "5.0%"], "5%"),
        ("rate", ["100sat/kB", "100000sat/MB", {"satoshis": 100, "bytes": 1000}, "1sat/10B"], {"satoshis": 100, "bytes": 1000}),
        ("rate", ["1sat/B", "1sat/byte", "1000sat/kB"], {"satoshis": 1000, "bytes": 1000}),
        ("rate", ["1sat/KiB", {"satoshis": 2, "bytes": 2048}], {"satoshis": 1, "bytes": 1024}),
        ("path", ["data/x.csv", "./data/x.csv", "data//x.csv", "data/./x.csv"], "data/x.csv"),
    ],
)
def test_spellings_of_one_quantity_are_one_value(unit: str, spellings: list[object], stored: object) -> None:
    assert [units.PARSERS[unit](spelling) for spelling in spellings] == [stored] * len(spellings)


@pytest.mark.parametrize(
    ("unit", "text", "part"),
    [
        ("duration", "180 dogs", "is no duration"),
        ("duration", "P", "is no duration"),
        ("duration", "PT", "is no duration"),
        ("duration", "P1DT", "is no duration"),
        ("duration", "", "is no duration"),
        ("duration", "-1s", "is no duration"),
        ("duration", "P1M", "months or years"),
        ("duration", "P1Y2D", "months or years"),
        ("duration", "0.5ms", "not a whole number"),
        ("duration", "1s1h", "is no duration"),
        ("duration", "99999999999999d", "out of range"),
        ("duration", "9" * 40, "out of range"),
        ("size", "10XB", "is no size"),
        ("size", "1.5B", "not a whole number"),
        ("size", "99999PB", "out of range"),
        ("size", "-1", "is no size"),
        ("satoshis", "1.5sat", "no amount"),
        ("satoshis", "1btc", "no amount"),
        ("satoshis", "2100000000000001", "out of range"),
        ("percent", "101%", "more than 100%"),
        ("percent", "99.9", "no percentage"),
        ("percent", "-1%", "no percentage"),
        ("rate", "100sat", "no fee rate"),
        ("rate", "1sat/0B", "no fee rate"),
        ("path", "../x", "leaves the repository"),
        ("path", "a/../../x", "leaves the repository"),
        ("path", "/etc/passwd", "not a path relative"),
        ("path", "~/x", "not a path relative"),
        ("path", "a\\b", "not a path relative"),
    ],
)
def test_what_is_no_quantity_is_said_plainly(unit: str, text: str, part: str) -> None:
    with pytest.raises(units.UnitError, match=part):
        units.PARSERS[unit](text)


@pytest.mark.parametrize(
    ("unit", "stored", "shown"),
    [
        ("duration", 604_800_000, "7d"),
        ("duration", 1500, "1500ms"),
        ("duration", 5_400_000, "90m"),
        ("duration", 0, "0ms"),
        ("size", 8_388_608, "8MiB"),
        ("size", 100_000_000, "100MB"),
        ("size", 5, "5B"),
        ("satoshis", 25, "25sat"),
        ("rate", {"satoshis": 100, "bytes": 1000}, "100sat/kB"),
        ("rate", {"satoshis": 1, "bytes": 1024}, "1sat/1024B"),
        ("percent", "5%", "5%"),
    ],
)
def test_shown_as_people_write_it(unit: str, stored: object, shown: str) -> None:
    assert units.show(unit, stored) == shown
