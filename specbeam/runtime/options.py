"""gRPC channel and server options. Both sides of keepalive come from here.

gRPC ignores misspelt names without a word, so the names are constants with tests.
"""

from typing import Final

DEFAULT_MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024

_KEEPALIVE_INTERVAL_MS: Final = 60_000
_KEEPALIVE_TIMEOUT_MS: Final = 10_000
# Below the clients' interval, else the server hangs up with "too many pings".
_MIN_PING_INTERVAL_MS: Final = 30_000
# Makes clients resolve names again and so find new replicas.
_MAX_CONNECTION_AGE_MS: Final = 300_000
_MAX_CONNECTION_AGE_GRACE_MS: Final = 60_000
# One request is worth far less than this; a peer may not hold a thousand of them.
_MAX_CONCURRENT_STREAMS: Final = 1000

Options = tuple[tuple[str, int | str], ...]

_SHARED: Final[Options] = (
    ("grpc.keepalive_time_ms", _KEEPALIVE_INTERVAL_MS),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)


def server_options(max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES) -> Options:
    """Return the options every server is made with.

    Args:
        max_message_bytes: Largest message sent or received, bytes.
    """
    return (
        # Linux would let a second process share the port and take half the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_concurrent_streams", _MAX_CONCURRENT_STREAMS),
        *_SHARED,
        ("grpc.http2.min_ping_interval_without_data_ms", _MIN_PING_INTERVAL_MS),
        ("grpc.max_connection_age_ms", _MAX_CONNECTION_AGE_MS),
        ("grpc.max_connection_age_grace_ms", _MAX_CONNECTION_AGE_GRACE_MS),
    )


def channel_options(max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES) -> Options:
    """Return the options every channel is made with, without a service config.

    Args:
        max_message_bytes: Largest message sent or received, bytes.
    """
    return (
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # A replica that restarts is found again within a second, not after two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        *_SHARED,
    )
