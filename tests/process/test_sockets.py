from __future__ import annotations

import socket

import pytest

from rangeserver.process.sockets import NOTSENT_LOWAT_BYTES, listen


def test_accepted_connections_inherit_the_kernels_deadlines() -> None:
    (listener,) = listen("127.0.0.1", 0, user_timeout_seconds=45)
    with listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            for option, expected in (
                (socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES),
                (socket.TCP_USER_TIMEOUT, 45_000),
            ):
                assert accepted.getsockopt(socket.IPPROTO_TCP, option) == expected
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_every_address_of_a_name_is_listened_on_at_one_port() -> None:
    sockets = listen("localhost", 0, user_timeout_seconds=1)
    try:
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
    finally:
        for sock in sockets:
            sock.close()


def test_a_taken_port_leaves_no_socket_behind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="Address already in use"):
            listen("127.0.0.1", port, user_timeout_seconds=1)  # ResourceWarning if one leaked
