"""RACK by hand: RFC 8985 section 6, with the times of its examples."""

import pytest

from netstack.transport.tcp.rack import Rack
from netstack.transport.tcp.scoreboard import Scoreboard

MSS = 1000
RTT = 0.100


def sent_every(interval, count, *, together=False):
    board = Scoreboard()
    for index in range(count):
        at = 0.0 if together else index * interval
        board.append(index * MSS, (index + 1) * MSS, at, MSS)
    return board


def deliver(rack, board, left, right, now):
    for sent in board.sack(left, right):
        rack.on_delivered(sent, now, RTT, None)


def lost(board):
    return [sent.start // MSS for sent in board if sent.lost]


def test_one_sent_later_and_delivered_makes_earlier_ones_suspect_first():
    rack, board = Rack(), sent_every(0.01, 4)
    deliver(rack, board, 1000, 2000, 0.11)
    window = rack.reordering_window(board, RTT, RTT, recovering=False)
    assert window == pytest.approx(RTT / 4)
    assert rack.detect(board, 0.11, window) == pytest.approx(RTT / 4 - 0.01)
    assert lost(board) == []
    assert rack.detect(board, 0.126, window) is None
    assert lost(board) == [0]


def test_three_sacked_segments_end_the_patience():
    rack, board = Rack(), sent_every(0.01, 5)
    deliver(rack, board, 1000, 4000, 0.13)
    assert rack.reordering_window(board, RTT, RTT, recovering=False) == 0.0
    rack.detect(board, 0.13, 0.0)
    assert lost(board) == [0]


def test_what_was_sent_after_the_latest_delivery_is_not_lost():
    rack, board = Rack(), sent_every(0.01, 6)
    deliver(rack, board, 2000, 3000, 0.12)
    rack.detect(board, 0.5, 0.0)
    assert lost(board) == [0, 1]


def test_segments_of_one_super_segment_are_ordered_by_sequence():
    rack, board = Rack(), Scoreboard()
    board.append(0, 5000, 0.0, MSS)
    deliver(rack, board, 3000, 4000, 0.1)
    rack.detect(board, 0.2, 0.0)
    assert [(sent.start, sent.end) for sent in board if sent.lost] == [(0, 3000)]


def test_a_lost_retransmission_is_found():
    rack, board = Rack(), sent_every(0.01, 4)
    deliver(rack, board, 1000, 4000, 0.13)
    rack.detect(board, 0.13, 0.0)
    board.resent(board[0], 1000, 0.13, MSS, 30.0)
    board.append(4000, 5000, 0.14, MSS)
    deliver(rack, board, 4000, 5000, 0.24)
    rack.detect(board, 0.24, 0.0)
    assert lost(board) == [0]


def test_delivery_out_of_order_widens_the_window_and_duplicates_more_so():
    rack, board = Rack(), sent_every(0.001, 6)
    deliver(rack, board, 3000, 4000, 0.103)
    deliver(rack, board, 1000, 2000, 0.104)
    assert rack.reordering_seen
    assert rack.reordering_window(board, RTT, RTT, recovering=True) == pytest.approx(RTT / 4)
    rack.on_dsack(0, 6000)
    assert rack.reordering_window(board, RTT, RTT, recovering=True) == pytest.approx(RTT / 2)
    rack.on_dsack(0, 6000)  # the same round trip
    assert rack.reordering_window(board, RTT, RTT, recovering=True) == pytest.approx(RTT / 2)
    for _ in range(16):
        rack.on_recovery_end()
    assert rack.reordering_window(board, RTT, RTT, recovering=True) == pytest.approx(RTT / 4)


def test_answer_to_the_original_does_not_count_for_the_retransmission():
    rack, board = Rack(), sent_every(0.01, 2)
    board.mark_lost(board[0])
    board.resent(board[0], 1000, 0.2, MSS, 30.0)
    for sent in board.sack(0, 1000):
        rack.on_delivered(sent, 0.25, 0.01, echoed_at=0.0)
    assert rack.sent_at < 0


def test_timeout_marks_the_first_and_all_as_old():
    rack, board = Rack(), sent_every(0.05, 4)
    rack.rtt = RTT
    rack.mark_lost_on_timeout(board, 0.19, 0.0)
    assert lost(board) == [0, 1]
