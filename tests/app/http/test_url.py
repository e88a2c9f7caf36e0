from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.app.http.url import parse_authority, parse_url

BASE = parse_url("http://a/b/c/d;p?q")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://Example.COM", "http://example.com/"),
        ("HTTP://a:80/x", "http://a/x"),
        ("https://a:443", "https://a/"),
        ("https://a:80/?q#f", "https://a:80/?q#f"),
        ("http://[2001:DB8::1]:8080/", "http://[2001:db8::1]:8080/"),
        ("http://a:/x", "http://a/x"),
        ("http://a?q", "http://a/?q"),
        ("http://a/../b/./c/..", "http://a/b/"),
        ("http://a/%41 ", "http://a/%41"),
        ("http://b\xfccher.example/\xe9?\xe9", "http://xn--bcher-kva.example/%C3%A9?%C3%A9"),
        ("http://a.example./", "http://a.example./"),
        ("http://a_b/", "http://a_b/"),
        ("http://127.0.0.1", "http://127.0.0.1/"),
    ],
)
def test_urls_are_normalized(text, expected):
    assert str(parse_url(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "/x",
        "ftp://a/",
        "http:",
        "http:///x",
        "http://:80/",
        "http://u@a/",
        "http://u:p@a/",
        "http://a:99999/",
        "http://a:0/",
        "http://a:x/",
        "http://a b/",
        "http://a/\r\nX: y",
        "http://a/\x00",
        "http://a\\@b/",
        "http://a%2eb/",
        "http://-a/",
        "http://a..b/",
        "http://" + "a" * 64 + "/",
        "http://" + "a." * 200 + "b/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://[v1.x]/",
        "http://[1.2.3.4]/",
        "javascript:alert(1)",
        "http://\ud800/",
    ],
)
def test_what_is_no_url_raises_value_error(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the type is the contract
        parse_url(text)


@pytest.mark.parametrize(
    "host",
    ["0177.0.0.1", "2130706433", "0x7f000001", "127.1", "1.2.3.4.", "256.1.1.1", "1.2.3.08"],
)
def test_htt_36_addresses_are_dotted_quads_or_nothing(host):
    with pytest.raises(ValueError):  # noqa: PT011
        parse_url(f"http://{host}/")


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("g", "http://a/b/c/g"),
        ("./g/", "http://a/b/c/g/"),
        ("/g", "http://a/g"),
        ("//g", "http://g/"),
        ("?y", "http://a/b/c/d;p?y"),
        ("#s", "http://a/b/c/d;p?q#s"),
        ("", "http://a/b/c/d;p?q"),
        ("..", "http://a/b/"),
        ("../../../g", "http://a/g"),
        ("g;x=1/../y", "http://a/b/c/y"),
        ("https://h:8/x", "https://h:8/x"),
        ("g?y/../x", "http://a/b/c/g?y/../x"),
    ],
)
def test_references_resolve_as_rfc_3986_5_4_says(reference, expected):
    assert str(BASE.join(reference)) == expected


def test_fragment_is_inherited_by_a_reference_without_one():
    base = parse_url("http://a/#f")
    assert str(base.join("/x")) == "http://a/x#f"
    assert str(base.join("/x#g")) == "http://a/x#g"
    assert base.join("/x").target == "/x"


def test_authority_of_a_host_field():
    assert parse_authority("A:8080") == ("a", 8080)
    assert parse_authority("[::1]") == ("::1", None)
    assert parse_authority("") == ("", None)


@given(st.text(max_size=30), st.text(max_size=20))
def test_parsing_raises_nothing_but_value_error(text, reference):
    for call in (
        lambda: parse_url(text),
        lambda: parse_url("http://" + text),
        lambda: BASE.join(reference),
    ):
        try:
            url = call()
        except ValueError:
            continue
        assert parse_url(str(url)) == url
        assert url.target.isascii()
        assert url.authority.isascii()
