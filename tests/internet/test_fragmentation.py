import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.core.checksum import internet_checksum
from netstack.device.base import HEADROOM, Checksum, Frame
from netstack.internet.fragmentation import copied_options, fragment
from netstack.wire.ipv4 import IPv4Header


def _frame(data, split=None):
    if split is None:
        return Frame(bytearray(HEADROOM) + data, start=HEADROOM)
    return Frame(bytearray(HEADROOM) + data[:split], [data[split:]], start=HEADROOM)


def _octets(frames):
    return [frame.octets() for frame in frames]


@given(st.integers(1, 5000), st.integers(68, 1600))
def test_fragments_fit_and_hold_every_octet_once(packet, length, mtu):
    payload = bytes(n * 7 % 256 for n in range(length))
    pieces = _octets(fragment(_frame(packet(payload, identification=77), 40), mtu))
    position = 0
    for number, data in enumerate(pieces):
        assert len(data) <= mtu
        assert internet_checksum(data[:20]) == 0
        header, content = IPv4Header.parse(data)
        assert header.identification == 77
        assert header.fragment_offset == position
        assert header.more_fragments == (number < len(pieces) - 1)
        assert bytes(content) == payload[position : position + len(content)]
        position += len(content)
    assert position == length


def test_fragment_of_a_fragment_keeps_its_place(packet):
    data = packet(bytes(1000), fragment_offset=800, more_fragments=True)
    parsed = [IPv4Header.parse(piece)[0] for piece in _octets(fragment(_frame(data), 576))]
    assert [header.fragment_offset for header in parsed] == [800, 800 + 552]
    assert all(header.more_fragments for header in parsed)


def test_only_copied_options_go_into_later_fragments(packet):
    options = bytes((7, 7, 4, 0, 0, 0, 0)) + bytes((148, 4, 0, 0)) + bytes(1)
    pieces = _octets(fragment(_frame(packet(bytes(2000), options=options)), 1000))
    headers = [IPv4Header.parse(piece)[0] for piece in pieces]
    assert headers[0].options == options
    assert [header.options for header in headers[1:]] == [bytes((148, 4, 0, 0))] * 2
    assert copied_options(bytes((130, 3, 9))) == bytes((130, 3, 9, 0))


def test_ip4_31_longest_header_still_makes_progress_at_68_octets(packet):
    options = bytes((130, 40)) + bytes(38)
    pieces = _octets(fragment(_frame(packet(bytes(100), options=options)), 68))
    assert len(pieces) == 13
    assert all(len(piece) <= 68 for piece in pieces)


def test_ip4_31_smaller_mtu_is_refused(packet):
    for mtu in range(68):
        with pytest.raises(ValueError, match="68"):
            fragment(_frame(packet(bytes(1000))), mtu)


def test_partial_checksum_is_completed_before_cutting(packet, udp):
    payload = bytearray(udp(bytes(2000)))
    payload[6:8] = (0x1234).to_bytes(2, "big")
    frame = _frame(packet(bytes(payload)))
    frame.checksum = Checksum.PARTIAL
    frame.checksum_start = HEADROOM + 20
    frame.checksum_offset = 6
    first = fragment(frame, 1500)[0]
    assert first.checksum is not Checksum.PARTIAL
    expected = ~internet_checksum(bytes(payload)) & 0xFFFF
    assert int.from_bytes(first.octets()[26:28], "big") == ~expected & 0xFFFF


@pytest.mark.needs("scapy")
@pytest.mark.parametrize("mtu", [68, 576, 1280, 1500])
def test_scapy_puts_our_fragments_together(packet, udp, mtu):
    from scapy.layers.inet import IP, defragment

    data = packet(udp(bytes(range(256)) * 12), identification=9)
    pieces = [IP(piece) for piece in _octets(fragment(_frame(data), mtu))]
    whole = defragment(pieces)
    assert len(whole) == 1
    assert bytes(whole[0])[20:] == data[20:]


@pytest.mark.needs("scapy")
@pytest.mark.parametrize("size", [8, 64, 1480])
def test_our_reassembly_takes_scapys_fragments(make_world, size):
    from scapy.layers.inet import IP, UDP
    from scapy.layers.inet import fragment as scapy_fragment
    from scapy.packet import Raw

    world = make_world(reassembly_max_fragments=1000)
    packet = IP(src="192.0.2.9", dst="192.0.2.1", id=3) / UDP() / Raw(bytes(range(256)) * 8)
    for piece in reversed(scapy_fragment(packet, fragsize=size)):
        world.inject(bytes(piece))
    (received,) = world.received
    assert received.octets() == bytes(packet)[20:]
