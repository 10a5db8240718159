"""Messages over a pair of pipes: a length of four bytes, then MessagePack. Each process holds one end."""

from __future__ import annotations

import struct
import threading
from typing import BinaryIO, Generic, TypeVar

import msgspec

Incoming = TypeVar("Incoming")

_LENGTH = struct.Struct("<I")
MAX_MESSAGE = 1 << 30  # bytes; a prompt of a million tokens takes a hundredth of it


class ChannelClosed(Exception):  # noqa: N818 - the other process has ended, which may be no error
    """There is nobody at the other end any more."""


class BadMessage(Exception):  # noqa: N818 - whoever sent it is told, nothing else happens
    """A message of the right form with a wrong content; `number` is the task's."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(why)
        self.number = number


class Channel(Generic[Incoming]):
    """One end of the connection: any thread may send, one receives. What comes in is checked against its type."""

    def __init__(self, source: BinaryIO, sink: BinaryIO, incoming: type[Incoming]) -> None:
        self.source, self.sink = source, sink
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(incoming)
        self._lock = threading.Lock()  # of the sink: messages must not be mixed

    def send(self, message: msgspec.Struct) -> None:
        """Send a message whole.

        Raises ChannelClosed where nobody listens, BadMessage for what cannot be sent: no text, no number, too long.
        """
        try:
            data = self._encoder.encode(message)
        except (TypeError, ValueError, OverflowError) as error:
            raise BadMessage(0, str(error)) from error
        if len(data) > MAX_MESSAGE:
            raise BadMessage(0, f"{len(data)} bytes are too much, at most {MAX_MESSAGE} can be sent")
        try:
            with self._lock:
                self.sink.write(_LENGTH.pack(len(data)) + data)
                self.sink.flush()
        except (OSError, ValueError) as error:
            raise ChannelClosed from error

    def receive(self) -> Incoming:
        """Wait for the next message.

        Raises ChannelClosed at the end and where what comes is no message, BadMessage for one of a wrong content.
        """
        try:
            (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
            if length > MAX_MESSAGE:
                raise ChannelClosed
            data = self._exactly(length)
        except (OSError, ValueError) as error:
            raise ChannelClosed from error
        try:
            return self._decoder.decode(data)
        except msgspec.ValidationError as error:
            number = _number(data)
            raise (ChannelClosed if number is None else BadMessage(number, str(error))) from error
        except msgspec.DecodeError as error:
            raise ChannelClosed from error

    def _exactly(self, count: int) -> bytes:
        data = self.source.read(count)
        if data is None or len(data) != count:
            raise ChannelClosed
        return data


def _number(data: bytes) -> int | None:
    """The number of a task whose message was not understood; None where it is no message at all."""
    message = msgspec.msgpack.decode(data)
    number = message.get("number") if isinstance(message, dict) else None
    return number if isinstance(number, int) else None
