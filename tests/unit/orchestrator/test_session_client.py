"""How the end of a stream is read."""

from typing import NoReturn

import grpc
import pytest

from orchestrator.session_client import Stream, StreamEnded

Code = grpc.StatusCode


class EndedCall:
    """A call whose every use fails, and whose status is `code`."""

    def __init__(self, code: Code, trailers: dict[str, str], left_s: float | None) -> None:
        self._code = code
        self._trailers = grpc.aio.Metadata(*trailers.items())
        self._left_s = left_s

    async def write(self, message: object) -> None:
        self._fail()

    async def read(self) -> object:
        self._fail()

    async def code(self) -> Code:
        return self._code

    async def details(self) -> str:
        return "some text"

    async def initial_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata()

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        return self._trailers

    def time_remaining(self) -> float | None:
        return self._left_s

    def _fail(self) -> NoReturn:
        raise grpc.aio.AioRpcError(self._code, grpc.aio.Metadata(), self._trailers, "some text")


@pytest.mark.parametrize(
    ("code", "trailers", "left_s", "meaning"),
    [
        (Code.UNAVAILABLE, {}, 1.0, Code.UNAVAILABLE),
        (Code.INTERNAL, {"x-request-id": "r"}, 1.0, Code.INTERNAL),
        (Code.INTERNAL, {}, 1.0, Code.UNAVAILABLE),
        (Code.INTERNAL, {}, None, Code.UNAVAILABLE),
        (Code.INTERNAL, {}, 0.0, Code.DEADLINE_EXCEEDED),
    ],
)
async def test_made_up_internal_means_lost_or_too_late(
    code: Code, trailers: dict[str, str], left_s: float | None, meaning: Code
) -> None:
    stream: Stream[object, object] = Stream(EndedCall(code, trailers, left_s))
    with pytest.raises(StreamEnded) as written:
        await stream.write(object())
    with pytest.raises(StreamEnded) as read:
        await stream.read()
    assert (written.value.code, read.value.code) == (meaning, meaning)
    assert str(read.value) == f"{meaning.name}: some text"


async def test_half_close_of_an_ended_call_tells_its_status() -> None:
    class EndedAfterWrite(EndedCall):
        async def write(self, message: object) -> None:
            pass

        async def done_writing(self) -> None:
            raise grpc.aio.InternalError("execute_batch")

    stream: Stream[object, object] = Stream(EndedAfterWrite(Code.DEADLINE_EXCEEDED, {}, 0.0))
    with pytest.raises(StreamEnded) as ended:
        await stream.write(object(), last=True)
    assert ended.value.code is Code.DEADLINE_EXCEEDED
