"""Paths, conditions and ranges."""

from __future__ import annotations

import pytest

from netstack.app.http.answer import BytesBody
from netstack.app.http.headers import Headers
from netstack.app.http.messages import MessageError, Request
from netstack.app.http.site import MediaTypes, Pages, Resource, join_path, represent, split_path

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
OLDER = "Sun, 06 Nov 1994 08:49:36 GMT"


def get(fields=(), target="/", method="GET"):
    return Request(method, target, "HTTP/1.1", Headers(dict(fields)))


def represented(fields=(), content=b"0123456789", method="GET"):
    resource = Resource("text/plain", BytesBody(content), '"tag"', 784_111_777)
    answer = represent(get(fields, method=method), resource)
    return answer.status, answer.body.read(1000), Headers(answer.fields)


def test_whole_with_validators():
    status, body, headers = represented()
    assert (status, body) == (200, b"0123456789")
    assert headers["etag"] == '"tag"'
    assert headers["last-modified"] == DATE
    assert headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"If-Modified-Since": DATE}, 304),
        ({"If-Modified-Since": OLDER}, 200),
        ({"If-Modified-Since": "soon"}, 200),
        ({"If-None-Match": '"other", W/"tag"'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"', "If-Modified-Since": DATE}, 200),
        ({"If-Match": '"tag"'}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": 'W/"tag"'}, 412),
        ({"If-Unmodified-Since": OLDER}, 412),
        ({"If-Unmodified-Since": DATE}, 200),
    ],
)
def test_conditions(fields, status):
    assert represented(fields)[0] == status


@pytest.mark.parametrize(
    ("value", "body", "content_range"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=4-", b"456789", "bytes 4-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=8-99999999999", b"89", "bytes 8-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        ("Bytes=9-9", b"9", "bytes 9-9/10"),
    ],
)
def test_one_range_is_served(value, body, content_range):
    status, part, headers = represented({"Range": value})
    assert (status, part, headers["content-range"]) == (206, body, content_range)


@pytest.mark.parametrize("value", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_htt_39_ranges_outside_are_not_satisfiable(value):
    status, _, headers = represented({"Range": value})
    assert (status, headers["content-range"]) == (416, "bytes */10")


@pytest.mark.parametrize(
    "value",
    [
        ",".join(["bytes=0-9"] * 1000),
        "bytes=" + ",".join(["0-"] * 1000),
        "bytes=0-1,2-3",
        "bytes=5-2",
        "bytes=--1",
        "bytes=-",
        "bytes=",
        "bytes=0-" + "9" * 5000,
        "lines=1-2",
        "bytes=a-b",
    ],
)
def test_htt_39_any_other_range_gets_the_whole_once(value):
    status, body, _ = represented({"Range": value})
    assert (status, body) == (200, b"0123456789")


def test_range_of_nothing_is_not_satisfiable_and_head_ignores_ranges():
    assert represented({"Range": "bytes=0-"}, content=b"")[0] == 416
    assert represented({"Range": "bytes=0-1"}, method="HEAD")[0] == 200


@pytest.mark.parametrize(
    ("value", "status"),
    [('"tag"', 206), ('"old"', 200), ('W/"tag"', 200), (DATE, 206), (OLDER, 200), ("x", 200)],
)
def test_if_range(value, status):
    assert represented({"Range": "bytes=0-1", "If-Range": value})[0] == status


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", ([], True)),
        ("/a/b?c#d", (["a", "b"], False)),
        ("//a///b/./", (["a", "b"], True)),
        ("/%41%20%C3%A9", (["A \xe9"], False)),
        ("/%ff", (["\udcff"], False)),
        ("http://h/x", (["x"], False)),
        ("http://h", ([], True)),
    ],
)
def test_paths_are_split_and_decoded_once(target, expected):
    assert split_path(target) == expected


@pytest.mark.parametrize(
    "target",
    ["/..", "/a/../b", "/%2e%2e/x", "/.%2E/", "/a%2fb", "/%", "/%4", "/a%00", "/a%0d", "*", "x"],
)
def test_paths_that_lead_astray_are_refused(target):
    with pytest.raises(MessageError):
        split_path(target)


def test_paths_are_decoded_only_once():
    assert split_path("/%252e%252e") == (["%2e%2e"], False)


def test_join_is_the_inverse():
    for path in ("/", "/a/", "/a%20b/%C3%A9%3F"):
        assert join_path(*split_path(path)[:1], directory=path.endswith("/")) == path


def test_pages_find_their_index_and_redirect_to_it():
    pages = Pages({"/": b"home", "/d/index.html": b"index", "/s.css": b"x", "/e/": b"e"})
    assert pages(get(target="/?q")).body.read(99) == b"home"
    assert pages(get(target="/d/")).body.read(99) == b"index"
    assert Headers(pages(get(target="//d")).fields)["location"] == "/d/"
    assert pages(get(target="/e")).status == 301
    assert pages(get(target="/x")).status == 404
    assert Headers(pages(get(target="/s.css")).fields)["content-type"].startswith("text/css")
    etag = Headers(pages(get()).fields)["etag"]
    assert pages(get({"If-None-Match": etag})).status == 304


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.html", "text/html; charset=utf-8"),
        ("a.PNG", "image/png"),
        ("a.tar.gz", "application/gzip"),
        ("a.txt.br", "application/octet-stream"),
        ("a", "application/octet-stream"),
        ("data:text/html,x", "application/octet-stream"),
        ("a.json", "application/json"),
    ],
)
def test_media_types(name, media_type):
    assert MediaTypes().of(name) == media_type
