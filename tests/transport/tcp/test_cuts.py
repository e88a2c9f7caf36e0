"""Calls of the user that a raising signal handler cuts short, and what errors keep alive."""

import errno
import gc
import sys
import weakref

import pytest

from netstack.core.errors import Reset


class Cut(Exception):
    """What the signal handler raises."""


def cut_at(line, function):
    """Run ``function``; raise at the ``line``-th line of TCP or its buffers; tell if it was."""
    left = [line]

    def tracer(frame, event, _):
        name = frame.f_code.co_filename
        if "/transport/tcp/" in name or name.endswith("/core/buffer.py"):
            left[0] -= event == "line"
            if not left[0]:
                raise Cut
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        function()
    except Cut:
        return True
    finally:
        sys.settrace(before)
    return False


def ready(peer):
    """Return a connection with octets to read and to acknowledge."""
    peer.established()
    peer.connection.send(b"sent before", peer.now)
    peer.poll()
    peer.inject("PA", seq=1, ack=12, data=bytes(range(200)))
    peer.segments()
    return peer.connection


CALLS = {
    "send": lambda peer: peer.connection.send(b"octets", peer.now),
    "receive": lambda peer: peer.connection.receive(150, peer.now),
    "shutdown_write": lambda peer: peer.connection.shutdown_write(peer.now),
    "close": lambda peer: peer.connection.close(peer.now),
    "abort": lambda peer: peer.connection.abort(peer.now),
}


def kept(connection):
    """Return what the call may change."""
    sender, receiver = connection.sender, connection.receiver
    held = receiver.buffer.length if receiver.buffer is not None else 0
    return sender.taken, sender.fin_queued, held, connection.state, connection.orphan


@pytest.mark.needs("sources")  # lines are cut
@pytest.mark.parametrize("name", CALLS)
def test_call_that_was_cut_is_done_or_not_or_ends_the_connection(make_peer, name):
    whole = make_peer()
    ready(whole)
    CALLS[name](whole)
    done = kept(whole.connection)
    line, ended = 0, 0
    while True:
        line += 1
        peer = make_peer()
        connection = ready(peer)
        untouched = kept(connection)
        if not cut_at(line, lambda peer=peer: CALLS[name](peer)):
            break
        peer.stack.abort_current(peer.now)
        peer.stack.rebuild_timers()
        assert peer.stack.tcp.current is None
        if connection.state.name == "CLOSED":
            ended += 1
            assert peer.stack.tcp.memory.used == 0
        else:
            assert kept(connection) in (untouched, done)
    assert ended
    assert line > 5


@pytest.mark.parametrize("name", CALLS)
def test_call_that_came_to_its_end_leaves_no_mark(peer, name):
    ready(peer)
    CALLS[name](peer)
    assert peer.stack.tcp.current is None


def test_error_that_was_raised_does_not_keep_its_connection(peer):
    peer.established()
    peer.inject("R", seq=1)
    gone = weakref.ref(peer.connection)
    peer.events()
    gc.collect()
    gc.disable()
    try:

        def ask():
            connection = peer.connection
            try:
                connection.receive(10, peer.now)
            except Reset as error:
                return error  # somebody keeps it

        error = ask()
        own = peer.connection.error
        assert (error.errno, str(error)) == (errno.ECONNRESET, str(own))
        assert error is not own
        assert peer.connection.error.__traceback__ is None
        peer.connection = own = error.__traceback__ = None
        assert gone() is None
    finally:
        gc.enable()
