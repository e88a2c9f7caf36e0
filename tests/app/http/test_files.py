"""Files below a root: what is served, and what never is (HTT-40)."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.app.http.files import FileBody, Files
from netstack.app.http.headers import Headers
from netstack.app.http.messages import MessageError, Request
from netstack.app.http.server import HttpSession


@pytest.fixture
def root(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "site").mkdir()
    (root / "site" / "index.html").write_text("<p>index")
    (root / "a.txt").write_text("hello")
    (root / "<b>&\xe9 ?.txt").write_text("odd")
    (root / ".hidden").write_text("hidden")
    (root / ".well-known").mkdir()
    (root / ".well-known" / "x.txt").write_text("known")
    os.utime(root / "a.txt", (784_111_777, 784_111_777))
    (root / "out").symlink_to(tmp_path / "secret.txt")
    (root / "up").symlink_to(tmp_path)
    (root / "in").symlink_to(root / "a.txt")
    (root / "loop").symlink_to(root / "loop")
    os.mkfifo(root / "fifo")
    return root


def get(files, target, method="GET", **fields):
    answer = files(Request(method, target, "HTTP/1.1", Headers(fields)))
    body = b""
    while piece := answer.body.read(3):
        body += piece
    answer.body.close()
    return answer.status, body, Headers(answer.fields)


def test_file_with_its_type_and_date(root):
    status, body, headers = get(Files(root), "/a.txt")
    assert (status, body) == (200, b"hello")
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["last-modified"] == "Sun, 06 Nov 1994 08:49:37 GMT"


def test_part_of_a_file(root):
    assert get(Files(root), "/a.txt", Range="bytes=1-3")[:2] == (206, b"ell")


def test_directory_is_its_index_or_a_listing(root):
    files = Files(root)
    assert get(files, "/site/")[:2] == (200, b"<p>index")
    status, body, headers = get(files, "/")
    page = body.decode()
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert '<a href="./site/">site/</a>' in page
    assert "&lt;b&gt;&amp;\xe9 ?.txt" in page
    assert "./%3Cb%3E%26%C3%A9%20%3F.txt" in page
    assert ".hidden" not in page
    assert get(files, "/%3Cb%3E%26%C3%A9%20%3F.txt")[1] == b"odd"
    assert '<a href="../">' in get(files, "/sub/")[1].decode()


def test_directory_without_slash_is_redirected_within_the_site(root):
    status, _, headers = get(Files(root), "//site?x")
    assert (status, headers["location"]) == (301, "/site/")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/none", 404),
        ("/a.txt/", 404),
        ("/a.txt/b", 404),
        ("/.hidden", 404),
        ("/.well-known/x.txt", 200),
        ("/out", 404),
        ("/up/secret.txt", 404),
        ("/up/root/a.txt", 200),
        ("/in", 200),
        ("/loop", 404),
        ("/fifo", 403),
        ("/" + "n" * 300, 404),
    ],
)
def test_htt_40_links_devices_and_odd_names(root, target, status):
    assert get(Files(root), target)[0] == status


@pytest.mark.parametrize(
    "target",
    [
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/sub/..%2f..%2fsecret.txt",
    ],
)
def test_traversal_is_refused(root, target):
    files = Files(root)
    with pytest.raises(MessageError):
        get(files, target)


def test_unreadable_file_is_forbidden(root, monkeypatch):
    def refuse(path, flags):
        raise PermissionError(13, "Permission denied", path)

    files = Files(root)
    monkeypatch.setattr(os, "open", refuse)  # root reads everything
    assert get(files, "/a.txt")[0] == 403


def test_too_many_open_files_is_said_to_be_temporary(root, monkeypatch):
    def refuse(path, flags):
        raise OSError(24, "Too many open files", path)

    files = Files(root)
    monkeypatch.setattr(os, "open", refuse)
    assert get(files, "/a.txt")[0] == 503


def test_root_must_be_a_directory(root):
    with pytest.raises(NotADirectoryError):
        Files(root / "a.txt")


def test_htt_40_truncated_file_aborts_the_connection(root, talk):
    (root / "big").write_bytes(bytes(100_000))
    session = HttpSession(Files(root), 0.0)
    session.receive(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n", 0.0)
    while not bytes(session.outgoing(1000)).endswith(bytes(1000)):
        pass
    (root / "big").write_bytes(b"")
    conversation = talk(session).pump()
    assert conversation.closed == "abort"


def test_htt_40_removed_and_replaced_files_are_served_as_opened(root, talk):
    for change in (os.remove, lambda path: os.replace(root / "sub2", path)):
        (root / "big").write_bytes(b"x" * 10_000)
        (root / "sub2").write_bytes(b"new")
        session = HttpSession(Files(root), 0.0)
        session.receive(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n", 0.0)
        first = bytes(session.outgoing(10))
        change(root / "big")
        conversation = talk(session)
        conversation.received += first
        assert conversation.pump().response()[1] == b"x" * 10_000


def test_grown_file_is_cut_at_its_announced_length(root):
    files = Files(root)
    answer = files(Request("GET", "/a.txt", "HTTP/1.1", Headers()))
    with (root / "a.txt").open("a") as file:
        file.write(" and more")
    assert answer.body.read(100) == b"hello"
    answer.body.close()


def test_body_closes_its_file_once(root):
    descriptor = os.open(root / "a.txt", os.O_RDONLY)
    body = FileBody(descriptor, 5)
    body.close()
    body.close()
    assert body.read(10) == b""
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)


@given(st.text(max_size=30))
def test_no_target_reaches_out_of_the_root(target_text):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        files = Files(folder)
        target = "/" + target_text.encode("utf-8", "replace").decode("latin-1")
        try:
            status, _, _ = get(files, target)
        except MessageError:
            return
        assert status in (200, 403, 404)
