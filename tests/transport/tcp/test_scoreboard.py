"""The scoreboard against a model that keeps one entry an octet."""

from hypothesis import given
from hypothesis import strategies as st

from netstack.transport.tcp.scoreboard import Scoreboard

MSS = 10


def board_of(*lengths):
    board = Scoreboard()
    position = 0
    for index, length in enumerate(lengths):
        board.append(position, position + length, float(index), MSS)
        position += length
    return board


def shape(board):
    return [(sent.start, sent.end, sent.sacked, sent.lost) for sent in board]


def test_sack_splits_at_wire_segments_and_rounds_inward():
    board = board_of(40)
    newly = board.sack(5, 35)
    assert [(sent.start, sent.end) for sent in newly] == [(10, 30)]
    assert shape(board) == [(0, 10, False, False), (10, 30, True, False), (30, 40, False, False)]
    assert board.sacked_octets == 20
    assert board.sacked_segments == 2


def test_sack_inside_one_wire_segment_says_nothing():
    board = board_of(10, 10)
    assert board.sack(2, 8) == []
    assert board.sacked_octets == 0


def test_sacked_neighbours_are_joined():
    board = board_of(10, 10, 10, 10)
    board.sack(10, 20)
    board.sack(30, 40)
    board.sack(20, 30)
    assert shape(board) == [(0, 10, False, False), (10, 40, True, False)]


def test_sack_of_a_lost_range_takes_it_off_the_list():
    board = board_of(10, 10)
    board.mark_lost(board[0])
    board.sack(0, 10)
    assert board.lost_octets == 0


def test_last_short_segment_is_whole_for_sack():
    board = board_of(25)
    board.sack(20, 25)
    assert board.sacked_octets == 5


def test_resent_range_keeps_the_rest_lost():
    board = board_of(40)
    board.mark_lost(board[0])
    board.resent(board[0], 10, 9.0, MSS, 30.0)
    assert shape(board) == [(0, 10, False, False), (10, 40, False, True)]
    assert board[0].transmissions == 2
    assert board.lost_octets == 30


def test_last_segment_is_split_off():
    board = board_of(25)
    last = board.last_segment()
    assert (last.start, last.end) == (20, 25)
    board.sack(20, 25)
    assert board.last_segment() is None


def test_reneging_forgets_what_was_sacked():
    board = board_of(10, 10)
    board.sack(0, 20)
    board.forget_sacks()
    assert board.sacked_octets == 0
    assert not any(sent.sacked for sent in board)


operation = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 60)),
    st.tuples(st.just("sack"), st.integers(0, 300), st.integers(0, 300)),
    st.tuples(st.just("ack"), st.integers(0, 80)),
    st.tuples(st.just("lose"), st.integers(0, 20)),
    st.tuples(st.just("resend"), st.integers(1, 3)),
)


@given(st.lists(operation, max_size=40))
def test_ranges_stay_disjoint_ordered_and_counted(operations):
    board = Scoreboard()
    una = nxt = 0
    sacked = set()
    for name, *arguments in operations:
        if name == "append":
            board.append(nxt, nxt + arguments[0], 0.0, MSS)
            nxt += arguments[0]
        elif name == "sack" and board:
            left, right = una + arguments[0], una + arguments[1]
            if left < right <= nxt:
                for sent in board.sack(left, right):
                    octets = set(range(sent.start, sent.end))
                    assert not octets & sacked
                    assert octets <= set(range(left, right))
                    sacked |= octets
        elif name == "ack":
            una = min(una + arguments[0], nxt)
            board.acknowledge(una)
            sacked = {octet for octet in sacked if octet >= una}
        elif name == "lose" and len(board) > arguments[0]:
            board.mark_lost(board[arguments[0]])
        elif name == "resend" and (lost := board.first_lost()) is not None:
            end = min(lost.end, lost.start + arguments[0] * MSS)
            board.resent(lost, end, 1.0, MSS, 30.0)
        position = una
        for sent in board:
            assert sent.start == position
            assert sent.end > sent.start
            assert not (sent.lost and sent.sacked)
            position = sent.end
        assert position == nxt
        assert board.lost_octets == sum(s.octets for s in board if s.lost)
        assert board.sacked_octets == len(sacked)
        assert len(board) <= nxt - una
