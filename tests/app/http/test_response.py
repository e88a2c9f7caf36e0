from __future__ import annotations

import pytest

from netstack.app.http.headers import Headers
from netstack.app.http.response import Response, StatusError, Timings
from netstack.core.errors import NetstackError


def response(body=b"", content_type="", status=200):
    headers = Headers({"Content-Type": content_type} if content_type else {})
    timings = Timings(0, 0, 0, 0, 0, 0)
    return Response(status, "Reason", "HTTP/1.1", "http://a/", headers, body, (), timings)


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("", b"\xc3\xa9", "\xe9"),
        ("", b"\xe9", "\ufffd"),
        ("text/html; charset=ISO-8859-1", b"\xe9", "\xe9"),
        ('text/html;Charset="latin-1"', b"\xe9", "\xe9"),
        ("text/html; charset=nonsense", b"\xc3\xa9", "\xe9"),
        ("text/html; charset=hex", b"6162", "6162"),
        ("text/html; charset=undefined", b"a", "a"),
        ("text/html; charset=a\x00b", b"a", "a"),
    ],
)
def test_text_is_decoded_by_charset_else_utf8(content_type, body, text):
    assert response(body, content_type).text == text


def test_json_and_status():
    assert response(b'{"a": [1]}').json() == {"a": [1]}
    with pytest.raises(ValueError, match="Expecting"):
        response(b"x").json()
    response(status=399).raise_for_status()
    with pytest.raises(StatusError, match="http://a/: 404 Reason") as caught:
        response(status=404).raise_for_status()
    assert isinstance(caught.value, NetstackError)
    assert caught.value.response.status == 404


def test_response_is_frozen():
    with pytest.raises(AttributeError):
        response().status = 1
