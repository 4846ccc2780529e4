"""A stored spec back in a person's words."""

from reconciler.manifest.written import field, written


def test_units_are_words_again_and_defaults_go_without_saying() -> None:
    spec = {"content": {"file": "a.csv"}, "retention": 90 * 86_400_000, "encryption": "none", "watermark": False, "replicas": 2}
    assert written("Dataset", spec) == {"content": {"file": "a.csv"}, "retention": "90d", "replicas": 2}
    assert written("PricePlan", {"model": "per-item", "rate": 2500}) == {"model": "per-item", "rate": "2500sat"}
    nested = {"chain": "main", "broadcasters": [{"name": "arc", "timeout": 10_000}]}
    assert written("Network", nested)["broadcasters"] == [{"name": "arc", "timeout": "10s"}]


def test_one_field_at_a_path() -> None:
    assert field("Dataset", "retention", 3_600_000) == "1h"
    assert field("PricePlan", "adjust.min", 5) == "5sat"
    assert field("PricePlan", "unheard.of", 5) == 5
    assert field("Quota", "anything", {"a": 1}) == {"a": 1}
