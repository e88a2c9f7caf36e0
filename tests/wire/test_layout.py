"""Fixed fields of headers: what compiled modules do in place is what the definition does."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.wire import layout

EXT = Path(__file__).parents[2] / "ext"
READERS = {
    "tcp_fields": 20, "timestamp_fields": 8, "ipv4_fields": 20, "vnet_fields": 10,
    "u8": 1, "u16": 2, "u32": 4,
}  # fmt: skip
BUFFERS = (bytes, bytearray, memoryview)

BUILD = """
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup
sys.argv = ["setup.py", "-q", "build_ext", "--inplace"]
setup(ext_modules=cythonize([Extension("inline", ["inline.pyx"])], include_path=[sys.path[-1]]))
"""


def _functions():
    return re.findall(r"^def (\w+)\(", Path(layout.__file__).read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def inline(tmp_path_factory):
    """The inline functions, called from a module made of nothing else."""
    at = tmp_path_factory.mktemp("inline")
    names = _functions()
    lines = [f"cimport layout\nNAMES = {names!r}"]
    for name in names:
        code = getattr(layout, name).__code__
        given = ", ".join(code.co_varnames[: code.co_argcount])
        lines.append(f"def {name}({given}):\n    return layout.{name}({given})")
    (at / "inline.pyx").write_text("\n".join(lines))
    program = f"import sys; sys.path.append({str(EXT)!r})\n{BUILD}"
    subprocess.run(
        [sys.executable, "-c", program], cwd=at, check=True, capture_output=True, timeout=110
    )
    spec = spec_from_file_location("inline", at / f"inline{EXTENSION_SUFFIXES[0]}")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.needs("kernels")
@given(octets=st.binary(min_size=24, max_size=64), at=st.integers(0, 4))
def test_what_is_read_in_place_is_what_the_definition_reads(inline, octets, at):
    for make in BUFFERS:
        data = make(octets)
        for name in READERS:
            if name == "vnet_fields":
                assert inline.vnet_fields(data) == layout.vnet_fields(data)
            else:
                assert getattr(inline, name)(data, at) == getattr(layout, name)(data, at), name
        for mac in (octets[at : at + 6], bytes(6)):
            assert inline.ethertype_for(data, at, mac) == layout.ethertype_for(data, at, mac)
        assert inline.octets_at(data, at, 9) == octets[at : at + 9]
        for length in (0, 1, 19, 20):
            expected = layout.header_sum(data, at, length)
            assert inline.header_sum(data, at, length) == expected
        for length in (0, 3, 8):
            assert inline.alike(data, at, octets, at, length)
            theirs = bytes([octets[0] ^ 1]) * 8
            expected = layout.alike(data, at, theirs, 0, length)
            assert inline.alike(data, at, theirs, 0, length) == expected
        assert inline.same(data, at, octets[at : at + 6])
        assert not inline.same(data, at, bytes([octets[at] ^ 1]))


@pytest.mark.slow
@pytest.mark.needs("kernels")
@given(numbers=st.lists(st.integers(0, 0xFFFF), min_size=8, max_size=8), at=st.integers(0, 4))
def test_what_is_written_in_place_is_what_the_definition_writes(inline, numbers, at):
    low = [number & 0xFF for number in numbers]
    addresses = bytes(low)
    calls = {
        "put": (addresses,),
        "put_ethernet": (addresses[:6], addresses),
        "put_ports": (addresses,),
        "put_tcp": (numbers[0] << 16, numbers[1] << 16 | 1, *numbers[2:6]),
        "put_timestamps": (numbers[0] << 16 | 5, numbers[1]),
        "put_ipv4": (low[0], *numbers[1:4], low[4], low[5], numbers[6], addresses),
        "put_vnet": (low[0], low[1], *numbers[2:6]),
    }
    for name, arguments in calls.items():
        mine, theirs = bytearray(64), bytearray(64)
        getattr(inline, name)(mine, at, *arguments)
        getattr(layout, name)(theirs, at, *arguments)
        assert mine == theirs, name
    assert inline.whole(sum(numbers) / 7) == layout.whole(sum(numbers) / 7)
    assert inline.folded(sum(numbers) << 7) == layout.folded(sum(numbers) << 7)


@pytest.mark.slow
@pytest.mark.needs("kernels")
@pytest.mark.parametrize("at", [-1, 61, 1 << 40])
def test_nothing_is_read_or_written_beyond_a_buffer(inline, at):
    for name in READERS:
        if name != "vnet_fields":
            with pytest.raises(ValueError, match="beyond"):
                getattr(inline, name)(bytes(61), at)
    with pytest.raises(ValueError, match="beyond"):
        inline.put(bytearray(62), at, bytes(8))
    with pytest.raises(TypeError):
        inline.put(bytes(62), 0, b"read-only")
