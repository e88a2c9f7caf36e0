"""One root, few classes; those of a socket are also the matching builtin."""

import copy
import errno

import pytest

from netstack.core import errors


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_has_the_one_root(name):
    assert issubclass(getattr(errors, name), errors.NetstackError)


@pytest.mark.parametrize(
    ("kind", "builtin", "code"),
    [
        (errors.Refused, ConnectionRefusedError, errno.ECONNREFUSED),
        (errors.Reset, ConnectionResetError, errno.ECONNRESET),
        (errors.TimedOut, TimeoutError, errno.ETIMEDOUT),
        (errors.Unreachable, OSError, errno.EHOSTUNREACH),
        (errors.DeviceError, OSError, errno.ENODEV),
    ],
)
def test_socket_errors_are_builtins_with_an_errno(kind, builtin, code):
    error = kind("10.0.0.1:80 refused")
    assert isinstance(error, builtin)
    assert error.errno == code
    assert str(error) == "10.0.0.1:80 refused"
    assert str(kind()) == errno.errorcode[code]


def test_copy_of_an_error_says_the_same():
    error = copy.copy(errors.Unreachable("no route to 10.0.0.1", errno.ENETUNREACH))
    assert (error.errno, str(error)) == (errno.ENETUNREACH, "no route to 10.0.0.1")
    assert isinstance(error, errors.Unreachable)


def test_an_errno_can_be_more_exact():
    error = errors.Unreachable("no route to 10.0.0.1", errno.ENETUNREACH)
    assert error.errno == errno.ENETUNREACH


def test_simulation_and_protocol_errors_are_no_os_errors():
    for kind in (errors.Deadlock, errors.Livelock, errors.NameNotFound, errors.ParseError):
        assert not issubclass(kind, OSError)
    assert issubclass(errors.ParseError, ValueError)
