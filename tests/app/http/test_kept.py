"""Kept files: used while nothing has changed, and never a moment longer (HTT-40)."""

from __future__ import annotations

import os

import pytest

from netstack.app.http import kept
from netstack.app.http.files import Files
from netstack.app.http.headers import Headers
from netstack.app.http.kept import MAX_FILES, MAX_SIZE, SETTLED_NS
from netstack.app.http.messages import Request
from netstack.app.http.server import HttpSession

LONG_AGO = 784_111_777  # the files' time of modification
FAR = 1 << 62  # nanoseconds: for this clock everything has settled


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    (root / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for path in (root / "a.txt", root / "sub" / "index.html", root / "sub" / "deep" / "b.txt"):
        write(path, b"hello")
    write(tmp_path / "outside" / "secret.txt", b"psst!")
    return root


@pytest.fixture
def files(root):
    return Files(root, clock_ns=lambda: FAR)


@pytest.fixture
def opened(monkeypatch):
    """The paths opened since it was cleared last."""
    paths = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: paths.append(path) or real(path, *rest))
    return paths


def write(path, data):
    """Write; the time of modification stays, and the time of change is another than before."""
    before = path.stat().st_ctime_ns if path.exists() else 0
    while True:
        path.write_bytes(data)
        os.utime(path, (LONG_AGO, LONG_AGO))
        if path.stat().st_ctime_ns != before:  # the clock of the file system ticks slowly
            return


def get(files, target, method="GET", **fields):
    fields = {name.replace("_", "-"): value for name, value in fields.items()}
    answer = files(Request(method, target, "HTTP/1.1", Headers(fields)))
    body = answer.body.read(100_000)
    answer.body.close()
    return answer.status, body, answer.fields


@pytest.mark.parametrize("target", ["/a.txt", "/sub/", "/sub/index.html", "/sub/deep/b.txt"])
def test_an_unchanged_file_is_read_once(files, opened, target):
    first = get(files, target)
    assert first[:2] == (200, b"hello")
    assert len(opened) == 1
    assert get(files, target) == first
    assert get(files, f"{target}?query") == first
    assert len(opened) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"If_None_Match": "*"},
        {"If_None_Match": '"x"'},
        {"If_Match": '"x"'},
        {"If_Modified_Since": "Sun, 06 Nov 1994 08:49:37 GMT"},
        {"If_Unmodified_Since": "Sun, 06 Nov 1994 08:49:36 GMT"},
        {"Range": "bytes=1-3"},
        {"Range": "bytes=-2"},
        {"Range": "bytes=9-"},
        {"Range": "bytes=1-3", "If_Range": '"x"'},
        {"Accept": "*/*"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions_and_ranges_are_those_of_the_file(root, files, fields, method):
    get(files, "/a.txt")
    unkept = Files(root, clock_ns=lambda: 0)
    for _ in range(2):
        expected = get(unkept, "/a.txt", method, **fields)
        assert get(files, "/a.txt", method, **fields) == expected


# -- what changes is served anew -----------------------------------------------------------------


def rewrite(root):
    write(root / "a.txt", b"HELLO")


def append(root):
    write(root / "a.txt", b"hello, HELLO")


def replace(root):
    write(root / "new", b"HELLO")
    os.replace(root / "new", root / "a.txt")


def link(root):
    write(root / "new", b"HELLO")
    (root / "a.txt").unlink()
    (root / "a.txt").symlink_to(root / "new")


@pytest.mark.parametrize("change", [rewrite, append, replace, link])
def test_changed_content_is_served_though_size_and_date_may_be_the_same(root, files, change):
    assert get(files, "/a.txt")[1] == b"hello"
    assert get(files, "/a.txt")[1] == b"hello"
    change(root)
    assert get(files, "/a.txt")[1].endswith(b"HELLO")
    assert get(files, "/a.txt")[1].endswith(b"HELLO")


def test_each_change_is_seen(root, files):
    for number in range(5):
        write(root / "a.txt", b"%05d" % number)
        assert get(files, "/a.txt")[1] == b"%05d" % number


def test_a_new_date_is_another_resource(root, files):
    etag = Headers(get(files, "/a.txt")[2])["etag"]
    os.utime(root / "a.txt", (LONG_AGO + 5, LONG_AGO + 5))
    status, _, fields = get(files, "/a.txt", If_None_Match=etag)
    assert status == 200
    assert Headers(fields)["last-modified"] == "Sun, 06 Nov 1994 08:49:42 GMT"


def test_a_removed_file_is_gone(root, files):
    for target in ("/a.txt", "/sub/"):
        assert get(files, target)[0] == 200
    (root / "a.txt").unlink()
    (root / "sub" / "index.html").unlink()
    assert get(files, "/a.txt")[0] == 404
    assert b"deep/" in get(files, "/sub/")[1]  # the list instead


def test_a_file_that_became_a_folder_or_a_fifo_is_no_file(root, files):
    get(files, "/a.txt")
    (root / "a.txt").unlink()
    (root / "a.txt").mkdir()
    assert get(files, "/a.txt")[0] == 301
    (root / "a.txt").rmdir()
    os.mkfifo(root / "a.txt")
    assert get(files, "/a.txt")[0] == 403


def test_taken_rights_count_at_once(root, files, monkeypatch):
    def refuse(path, flags):
        raise PermissionError(13, "Permission denied", path)

    before = (root / "a.txt").stat().st_ctime_ns
    get(files, "/a.txt")
    while (root / "a.txt").stat().st_ctime_ns == before:
        (root / "a.txt").chmod(0)
    monkeypatch.setattr(os, "open", refuse)  # root reads everything
    assert get(files, "/a.txt")[0] == 403


# -- links (HTT-40) ------------------------------------------------------------------------------


def test_htt_40_a_file_swapped_for_a_link_out_is_not_served(root, files):
    get(files, "/a.txt")
    os.replace(root / "a.txt", root.parent / "outside" / "a.txt")
    (root / "a.txt").symlink_to(root.parent / "outside" / "a.txt")
    assert get(files, "/a.txt")[0] == 404
    (root / "a.txt").unlink()
    (root / "a.txt").symlink_to(root.parent / "outside" / "secret.txt")
    assert get(files, "/a.txt")[0] == 404


def test_htt_40_a_link_to_the_same_file_is_a_link(root, files, monkeypatch):
    # As on a file system that does not stamp what is renamed.
    monkeypatch.setattr(kept, "_identity", lambda state: (state.st_ino, state.st_mode))
    get(files, "/a.txt")
    os.replace(root / "a.txt", root.parent / "outside" / "a.txt")
    (root / "a.txt").symlink_to(root.parent / "outside" / "a.txt")
    assert get(files, "/a.txt")[0] == 404


@pytest.mark.parametrize("moved", ["sub", "sub/deep"])
def test_htt_40_a_folder_swapped_for_a_link_out_is_not_served(root, files, moved):
    # The very same file, with all its times: only the way to it is another.
    assert get(files, "/sub/deep/b.txt")[1] == b"hello"
    os.replace(root / moved, root.parent / "outside" / "moved")
    (root / moved).symlink_to(root.parent / "outside" / "moved")
    assert get(files, "/sub/deep/b.txt")[0] == 404


def test_what_links_lead_to_is_not_kept(root, files, opened):
    (root / "link.txt").symlink_to(root / "a.txt")
    (root / "way").symlink_to(root / "sub")
    for target in ("/link.txt", "/way/deep/b.txt", "/way/"):
        for _ in range(2):
            opened.clear()
            assert get(files, target)[1] == b"hello"
            assert len(opened) == 1


# -- what is not kept ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["//a.txt", "/./a.txt", "/%61.txt", "http://h/a.txt", "/a.txt#"]
)
def test_other_spellings_are_served_but_not_kept(files, opened, target):
    for _ in range(2):
        opened.clear()
        assert get(files, target)[1] == b"hello"
        assert len(opened) == 1


def test_large_files_are_not_kept(root, files, opened):
    write(root / "most", bytes(MAX_SIZE))
    write(root / "more", bytes(MAX_SIZE + 1))
    for _ in range(2):
        assert len(get(files, "/most")[1]) == MAX_SIZE
        assert len(get(files, "/more")[1]) == MAX_SIZE + 1
    assert [os.path.basename(path) for path in opened] == ["most", "more", "more"]


@pytest.mark.parametrize(("age", "times"), [(SETTLED_NS, 2), (SETTLED_NS + 1, 1)])
def test_what_has_just_changed_may_change_unseen_and_is_not_kept(root, opened, age, times):
    changed = (root / "a.txt").stat().st_ctime_ns
    files = Files(root, clock_ns=lambda: changed + age)
    for _ in range(2):
        assert get(files, "/a.txt")[1] == b"hello"
    assert len(opened) == times


def test_by_the_real_clock_a_new_file_is_not_kept(root, opened):
    files = Files(root)
    for _ in range(2):
        assert get(files, "/a.txt")[1] == b"hello"
    assert len(opened) == 2


def test_a_file_cut_off_while_it_is_read_is_not_kept(root, files, talk, monkeypatch):
    real = os.read
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", lambda descriptor, size: real(descriptor, min(size, 3)))
        assert get(files, "/a.txt")[1] == b"hel"
        session = HttpSession(files, 0.0)
        patch.setattr(os, "read", lambda descriptor, size: b"")
        session.receive(b"GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n", 0.0)
        assert talk(session).pump().closed == "abort"
    assert get(files, "/a.txt")[1] == b"hello"


def test_descriptors_are_closed(root, files):
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(3):
        get(files, "/a.txt")
        get(files, "/a.txt", If_None_Match="*")
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_bounded_number_is_kept(root, opened):
    files = Files(root, clock_ns=lambda: FAR)
    names = [f"{number}.txt" for number in range(MAX_FILES + 1)]
    for name in names:
        write(root / name, b"x")
        get(files, f"/{name}")
    opened.clear()
    assert get(files, f"/{names[-1]}")[1] == b"x"
    assert not opened
    assert get(files, f"/{names[0]}")[1] == b"x"  # one too many, and all are forgotten
    assert len(opened) == 1
