"""What doctor asks where a Network has several header sources."""

from reconciler.cli.doctor import _header_sources
from reconciler.kinds.network import read_net


def test_one_source_is_asked_once() -> None:
    net = read_net("n", {"chain": "main", "headers": {"url": "https://a.example"}})
    assert _header_sources(net) == [net.headers]


def test_several_are_asked_one_by_one_and_then_together() -> None:
    net = read_net("n", {"chain": "main", "headers": [{"url": "https://a.example"}, {"url": "https://b.example"}]})
    first, second, both = _header_sources(net)
    assert [(one.name, one.url, dict(one.options)) for one in (first, second)] == [
        ("1", "https://a.example", {}),
        ("2", "https://b.example", {}),
    ]
    assert both == net.headers
