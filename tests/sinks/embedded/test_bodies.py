"""Request bodies come out as the client meant them, in pieces that a small body cannot blow up."""

import gzip
import io
import zlib
from email.message import Message
from typing import cast

import lz4.frame  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tokentide.sinks.embedded.bodies import BrokenBody, RequestBody
from tokentide.sinks.embedded.faults import Fault

PACK = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "lz4": lz4.frame.compress,
    "zstd": lambda data: zstandard.compress(data, 19),
}
MEBIBYTE = 1024 * 1024


def body(data: bytes, **headers: str) -> RequestBody:
    """A request body with its headers, as it lies in the connection."""
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return RequestBody(cast(io.BufferedIOBase, io.BytesIO(data)), message)


def packed(data: bytes, encoding: str) -> RequestBody:
    return body(data, Content_Encoding=encoding, Content_Length=str(len(data)))


@given(frames=st.lists(st.binary(), min_size=1, max_size=4), encoding=st.sampled_from(sorted(PACK)))
def test_frames_come_out_as_they_went_in(frames: list[bytes], encoding: str) -> None:
    data = b"".join(PACK[encoding](frame) for frame in frames)

    assert b"".join(packed(data, encoding).pieces()) == b"".join(frames)


@given(data=st.binary(max_size=1000), sizes=st.lists(st.integers(1, 50), min_size=1))
def test_chunks_come_out_as_they_went_in(data: bytes, sizes: list[int]) -> None:
    chunked, left = b"", data
    for size in sizes:
        part, left = left[:size], left[size:]
        chunked += b"%x;x=y\r\n%s\r\n" % (len(part), part) if part else b""
    chunked += (b"%x\r\n%s\r\n" % (len(left), left) if left else b"") + b"0\r\n\r\n"

    assert b"".join(body(chunked, Transfer_Encoding="chunked").pieces()) == data


@pytest.mark.parametrize("encoding", sorted(PACK))
def test_a_small_body_never_becomes_a_large_piece(encoding: str) -> None:
    data = PACK[encoding](bytes(100 * MEBIBYTE))
    most = size = 0

    for piece in packed(data, encoding).pieces():
        most, size = max(most, len(piece)), size + len(piece)

    assert size == 100 * MEBIBYTE
    assert most <= 16 * MEBIBYTE


@pytest.mark.parametrize("encoding", sorted(PACK))
def test_a_frame_without_its_end_is_refused(encoding: str) -> None:
    data = PACK[encoding](bytes(range(256)) * 1000)[:-5]

    with pytest.raises(Fault, match="ends inside a frame"):
        b"".join(packed(data, encoding).pieces())


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (b"short", {"Content_Length": "6"}),
        (b"x", {"Content_Length": "many"}),
        (b"3\r\nab", {"Transfer_Encoding": "chunked"}),
        (b"nothex\r\n", {"Transfer_Encoding": "chunked"}),
        (b"3\r\nabc\r\n", {"Transfer_Encoding": "chunked"}),
        (b"-3\r\nabc\r\n0\r\n\r\n", {"Transfer_Encoding": "chunked"}),
    ],
)
def test_a_body_that_breaks_off_is_never_taken_for_whole(data: bytes, headers: dict[str, str]) -> None:
    with pytest.raises(BrokenBody):
        b"".join(body(data, **headers).pieces())
