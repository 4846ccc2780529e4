"""Addresses and URLs that a stranger may not send us to, one case for each shape they come in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.wire.address import fault_of_address, fault_of_url, origin

NEAR = {
    "0.0.0.0": "unspecified",
    "10.1.2.3": "private",
    "100.64.0.1": "carrier-grade NAT",
    "100.100.100.200": "carrier-grade NAT",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "168.63.129.16": "metadata",
    "169.254.169.254": "link-local",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.192": "reserved",
    "192.0.2.1": "documentation",
    "192.168.1.1": "private",
    "198.18.0.1": "benchmarking",
    "224.0.0.251": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "::": "unspecified",
    "::1": "loopback",
    "::127.0.0.1": "reserved",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:7f00:1": "loopback",
    "::ffff:169.254.169.254": "link-local",
    "64:ff9b::a00:1": "private",
    "64:ff9b:1::a00:1": "reserved",
    "2001:db8::1": "documentation",
    "2002:7f00:1::": "tunnel",
    "2001:0:7f00:1::": "reserved",
    "fc00::1": "private",
    "fd00:ec2::254": "private",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "fec0::1": "private",
    "ff02::1": "multicast",
    "4000::1": "reserved",
    "nonsense": "unreadable",
    "": "unreadable",
}
PUBLIC = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "169.253.1.1", "223.255.255.255"]
PUBLIC_V6 = ["2606:4700::1111", "2a00:1450::1", "64:ff9b::808:808", "::ffff:8.8.8.8"]
BAD_URLS = {
    "http://127.0.0.1/": "loopback",
    "http://127.0.0.1:8080/x": "loopback",
    "http://2130706433/": "an address in disguise",
    "http://0x7f000001/": "an address in disguise",
    "http://0x7f.1/": "an address in disguise",
    "http://0177.0.0.1/": "an address in disguise",
    "http://127.1/": "an address in disguise",
    "http://010.8.8.8/": "an address in disguise",
    "http://8.8.8.8./": "an address in disguise",
    "http://[::1]/": "loopback",
    "http://[::ffff:127.0.0.1]/": "loopback",
    "http://[fe80::1%25eth0]/": "link-local",
    "http://localhost/": "a name of the local network",
    "http://LOCALHOST./": "a name of the local network",
    "http://a.localhost/": "a name of the local network",
    "http://printer.local/": "a name of the local network",
    "http://metadata.google.internal/": "a name of the local network",
    "http://router.lan/": "a name of the local network",
    "http://consul/": "a name of the local network",
    "http://good.example@127.0.0.1/": "with a password in it",
    "http://user:pass@good.example/": "with a password in it",
    "http://good.example\\@127.0.0.1/": "unreadable",
    "http://good.example /": "unreadable",
    "http://good..example/": "unreadable",
    "http://\u2460\u2461\u2466.0.0.1/": "not in ASCII",
    "http://good.example:99999/": "unreadable",
    "http://good.example:0/": "unreadable",
    "http:///x": "unreadable",
    "file:///etc/passwd": "unreadable",
    "gopher://good.example/": "unreadable",
    "//good.example/": "unreadable",
    "": "unreadable",
}


@pytest.mark.parametrize(("address", "fault"), NEAR.items())
def test_an_address_that_is_not_public_is_called_what_it_is(address: str, fault: str) -> None:
    assert fault_of_address(address) == fault


@pytest.mark.parametrize("address", PUBLIC + PUBLIC_V6)
def test_the_public_internet_is_open(address: str) -> None:
    assert fault_of_address(address) == ""
    written = f"[{address}]" if ":" in address else address
    assert fault_of_url(f"https://{written}/x") == ""


@pytest.mark.parametrize(("url", "fault"), BAD_URLS.items())
def test_a_url_is_refused_for_its_text(url: str, fault: str) -> None:
    assert fault_of_url(url) == fault


@pytest.mark.parametrize(
    "url", ["https://good.example", "http://a.b.example:8080/x?y=http://127.0.0.1/", "https://xn--bcher-kva.example/"]
)
def test_a_name_is_left_to_be_looked_up(url: str) -> None:
    assert fault_of_url(url) == ""


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.one_of(st.text(max_size=40), st.text(max_size=30).map(lambda text: f"http://{text}/"), st.ip_addresses().map(str)))
def test_every_text_is_judged_and_none_breaks_the_judge(text: str) -> None:
    assert isinstance(fault_of_url(text), str)
    assert isinstance(fault_of_address(text), str)
    origin(text)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.ip_addresses())
def test_no_address_is_open_that_python_calls_private_or_its_own(address) -> None:
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        inner = getattr(address, "ipv4_mapped", None)
        assert fault_of_address(str(address)) or (inner is not None and not fault_of_address(str(inner)))


def test_an_origin_is_scheme_host_and_port() -> None:
    assert origin("https://A.example/x") == origin("https://a.example:443/y") == ("https", "a.example", 443)
    assert origin("http://a.example") != origin("https://a.example")
    assert origin("http://a.example:81") != origin("http://a.example")
    assert origin("http://a.example:99999") == ("", "http://a.example:99999", 0)
