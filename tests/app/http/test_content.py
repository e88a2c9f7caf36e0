from __future__ import annotations

import contextlib
import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.app.http.content import PIECE, ContentDecoder
from netstack.core.errors import BodyTooLarge, RemoteProtocolError


def raw_deflate(data):
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


ENCODERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
}
TEXT = b"netstack " * 40_000


def decode(codings, data, step, max_size=None):
    decoder = ContentDecoder(codings, max_size)
    out = []
    for start in range(0, len(data), step):
        out.extend(decoder.decode(data[start : start + step]))
    decoder.finish()
    return out


@pytest.mark.parametrize("coding", list(ENCODERS))
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_each_coding_is_undone(coding, step):
    pieces = decode([coding], ENCODERS[coding](TEXT), step)
    assert b"".join(pieces) == TEXT
    assert coding == "identity" or max(map(len, pieces)) <= PIECE


@pytest.mark.parametrize("step", [1, 1 << 20])
def test_deflate_without_its_wrapper_and_gzip_of_several_members(step):
    assert b"".join(decode(["deflate"], raw_deflate(TEXT), step)) == TEXT
    assert b"".join(decode(["gzip"], gzip.compress(b"ab") + gzip.compress(b"c"), step)) == b"abc"


def test_codings_nest_in_the_order_of_the_field():
    assert b"".join(decode(["deflate", "gzip"], gzip.compress(zlib.compress(b"x")), 5)) == b"x"


def test_no_content_is_no_error():
    assert decode(["gzip"], b"", 1) == []


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_cut_or_broken_streams_are_refused(coding):
    data = ENCODERS[coding](TEXT)
    for wrong in (data[:-1], data[:1], data[:20], b"\xff" * 30, data + b"junk junk"):
        with pytest.raises(RemoteProtocolError):
            decode([coding], wrong, 1000)


def test_unknown_codings_are_refused():
    with pytest.raises(RemoteProtocolError, match="br"):
        ContentDecoder(["br"])


def test_htt_37_nested_codings_are_bounded():
    with pytest.raises(RemoteProtocolError, match="nested"):
        ContentDecoder(["gzip"] * 100)


def test_htt_37_decoded_size_is_bounded_while_it_streams():
    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    decoder = ContentDecoder(["gzip"], 1_000_000)

    def drain():
        for piece in decoder.decode(bomb):
            assert len(piece) <= PIECE

    with pytest.raises(BodyTooLarge):
        drain()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert decoder.size <= 1_000_000 + PIECE
    assert peak < 1_000_000


def test_htt_37_without_a_size_the_ratio_is_bounded():
    bomb = gzip.compress(gzip.compress(bytes(60_000_000)))
    decoder = ContentDecoder(["gzip", "gzip"])
    with pytest.raises(BodyTooLarge, match="became"):
        for _ in decoder.decode(bomb):
            pass
    assert decoder.size < 17 << 20


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]), st.integers(1, 50))
def test_decoders_raise_nothing_else(data, coding, step):
    with contextlib.suppress(RemoteProtocolError):
        decode([coding], data, step)
