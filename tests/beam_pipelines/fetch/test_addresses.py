import contextlib
import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.fetch import transport
from beam_pipelines.fetch.addresses import HttpAddress, follow_redirect, is_public, parse_http, resolve
from beam_pipelines.rejects import Reason, RejectedError


def address(target: str = "/", *, scheme: str = "http", host: str = "museum.example", port: int = 80) -> HttpAddress:
    return HttpAddress(scheme, host, port, target)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://museum.example", address()),
        ("HTTPS://Museum.Example.:8443/a", address("/a", scheme="https", port=8443)),
        ("http://museum.example?n=1#top", address("/?n=1")),
        ("http://museum.example/The Harvesters.jpg", address("/The%20Harvesters.jpg")),
        ("http://museum.example/a%20b%2Fc.jpg?q=%7E", address("/a%20b%2Fc.jpg?q=%7E")),
        ("http://museum.example/100%.jpg", address("/100%25.jpg")),
        ("http://museum.example/Vénus.jpg?ü=é", address("/V%C3%A9nus.jpg?%C3%BC=%C3%A9")),
        ("http://museum.example/a[1]\\b.jpg", address("/a%5B1%5D%5Cb.jpg")),
        ("http://museum.example//iiif//2/full", address("//iiif//2/full")),
        ("http://münchen.example/a", address("/a", host="xn--mnchen-3ya.example")),
        ("http://straße.example/a", address("/a", host="xn--strae-oqa.example")),
        ("http://[2606:4700::1111]:81/a", address("/a", host="2606:4700::1111", port=81)),
    ],
)
def test_an_address_is_read_and_quoted_once(text: str, expected: HttpAddress) -> None:
    assert parse_http(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "http:",
        "http:///a.jpg",
        "http:museum.example/a.jpg",
        "http://museum.example:port/",
        "http://museum.example:99999/",
        "http://museum.example:0/",
        "http://[::1/",
        "http://[fe80::1%eth0]/",
        "http://a b.example/",
        "http://a%2eexample/",
        "http://.example/",
        f"http://{'a' * 64}.example/",
        "http://museum.example/a\r\nHost: other",
        "http://museum.example/\x00",
        "http://museum.example/\ud800",
        "http://user:geheim@museum.example/",
        "http://geheim@[museum.example/",
    ],
)
def test_an_unusable_address_is_rejected_without_repeating_it(text: str) -> None:
    with pytest.raises(RejectedError) as caught:
        parse_http(text)
    assert caught.value.reason is Reason.BAD_URI
    assert "geheim" not in str(caught.value)
    assert "museum" not in str(caught.value)


@given(st.text())
def test_any_text_is_read_or_rejected(text: str) -> None:
    with contextlib.suppress(RejectedError):
        read = parse_http(f"http://{text}")
        assert read.host.isascii()
        assert read.target.isascii()
        assert read.target.isprintable()
        assert " " not in read.target
        assert parse_http(read.url) == read


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/b.jpg", address("/b.jpg")),
        ("b.jpg?x=1", address("/a/b.jpg?x=1")),
        ("../../../b.jpg", address("/b.jpg")),
        ("//other.example/b.jpg", address("/b.jpg", host="other.example")),
        ("https://other.example/b c.jpg", address("/b%20c.jpg", scheme="https", host="other.example", port=443)),
        ("/Vénus.jpg".encode().decode("latin-1"), address("/V%C3%A9nus.jpg")),
    ],
)
def test_a_redirect_is_relative_to_where_it_comes_from(location: str, expected: HttpAddress) -> None:
    assert follow_redirect(address("/a/0.jpg"), location) == expected


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gs://bucket/object", "ftp://museum.example/", "data:,x"])
def test_a_redirect_never_leaves_the_web(location: str) -> None:
    with pytest.raises(RejectedError) as caught:
        follow_redirect(address(), location)
    assert caught.value.reason is Reason.REFUSED_ADDRESS


@pytest.mark.parametrize(
    "ip",
    ["8.8.8.8", "151.101.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_addresses_of_the_open_internet_are_public(ip: str) -> None:
    assert is_public(ip)


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "168.63.129.16",
        "100.64.0.1",
        "100.100.100.200",
        "0.0.0.0",
        "192.0.0.9",
        "192.88.99.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::7f00:1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "4000::1",
    ],
)
def test_other_addresses_are_not_public(ip: str) -> None:
    assert not is_public(ip)


def answers(*ips: str) -> list[tuple[int, int, int, str, tuple[str, int]]]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ips]


def test_only_public_addresses_of_a_host_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers("10.0.0.1", "8.8.8.8", "127.0.0.1", "1.1.1.1"))
    found = resolve("museum.example", 80, allow_private=False)
    assert [ip for _, (ip, _) in found] == ["8.8.8.8", "1.1.1.1"]
    assert len(resolve("museum.example", 80, allow_private=True)) == 4


def test_numbers_in_disguise_are_seen_through() -> None:
    for host in ("2130706433", "0x7f000001", "127.1", "localhost"):
        with pytest.raises(RejectedError) as caught:
            resolve(host, 80, allow_private=False)
        assert caught.value.reason is Reason.REFUSED_ADDRESS


def test_certificates_are_verified() -> None:
    context = transport._tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
