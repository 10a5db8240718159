"""Messages arrive as they were sent, at any cut; what is no message is the end of the connection."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Sequence

import msgspec
import pytest

from nemotron_gguf.runner import Done, Drawn, Reasoning, Sampling, Timings, ToolCall, Usage
from nemotron_gguf.runner.chat.format import ChatFormat
from nemotron_gguf.runner.events import TokenProbability
from nemotron_gguf.runner.placement.placement import Placement, TensorOverride
from nemotron_gguf.runner.process.channel import BadMessage, Channel, ChannelClosed
from nemotron_gguf.runner.process.messages import Cancel, Failed, Generate, Load, Reply, Request

REQUESTS = [
    Request(1, Load("/tmp/Grüße\udcff.gguf".encode("utf-8", "surrogateescape"), Placement(1, 2))),
    Request(2, Load(b"x", Placement(1, 2, devices=("RPC0",), overrides=(TensorOverride("exps", "CPU"),)))),
    Request(3, Generate("你好", Sampling(logit_bias=((3, -1.5),)), format=ChatFormat(), tools=({"a": [None, 1.5]},))),
    Request(4, Generate((1, 2, 3), Sampling(seed=7), max_tokens=9, stop=("a", "b"), top_logprobs=2)),
    Request(0, Cancel(3)),
]
REPLIES = [
    Reply(1, Failed("RunnerError", "no")),
    Reply(2, Reasoning("…")),
    Reply(3, ToolCall("f", {"x": {"y": [1, "2", None]}})),
    Reply(4, Drawn(TokenProbability(1, b"\xff", -0.5), (), True)),
    Reply(5, Done("stop", Usage(1, 2, 3, 4, 5), Timings(0.5), 1, 2)),
]


def sent(messages: Sequence[msgspec.Struct]) -> bytes:
    sink = io.BytesIO()
    channel = Channel(io.BytesIO(), sink, Request)
    for message in messages:
        channel.send(message)
    return sink.getvalue()


@pytest.mark.parametrize(("messages", "kind"), [(REQUESTS, Request), (REPLIES, Reply)])
def test_messages_cross_a_pipe_cut_anywhere(messages: Sequence[msgspec.Struct], kind: type) -> None:
    data = sent(messages)
    reading, writing = os.pipe()

    def dribble() -> None:
        with os.fdopen(writing, "wb", buffering=0) as out:
            for byte in data:
                out.write(bytes([byte]))

    thread = threading.Thread(target=dribble)
    thread.start()
    with os.fdopen(reading, "rb") as source:
        channel: Channel[msgspec.Struct] = Channel(source, io.BytesIO(), kind)
        assert [channel.receive() for _ in messages] == messages
        with pytest.raises(ChannelClosed):
            channel.receive()
    thread.join()


@pytest.mark.parametrize("cut", [1, 3, 4, 9, -1])
def test_a_message_that_breaks_off_is_the_end(cut: int) -> None:
    with pytest.raises(ChannelClosed):
        Channel(io.BytesIO(sent(REQUESTS[:1])[:cut]), io.BytesIO(), Request).receive()


@pytest.mark.parametrize(
    "data",
    [b"\xff\xff\xff\xff" + b"x" * 99, b"\x01\0\0\0\xc1", b"\x01\0\0\0\x01", b"plain text, printed"],
)
def test_what_is_no_message_is_the_end(data: bytes) -> None:
    with pytest.raises(ChannelClosed):
        Channel(io.BytesIO(data), io.BytesIO(), Request).receive()


def test_a_message_of_wrong_content_names_its_task() -> None:
    channel = Channel(io.BytesIO(sent([*REPLIES[3:4], *REQUESTS[:1]])), io.BytesIO(), Request)
    with pytest.raises(BadMessage) as caught:
        channel.receive()
    assert caught.value.number == 4
    assert channel.receive() == REQUESTS[0], "and the next is read"
    with pytest.raises(BadMessage):
        channel.send(Request(1, Generate((2**70,), Sampling())))


def test_nobody_listens() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as sink, pytest.raises(ChannelClosed):
        Channel(io.BytesIO(), sink, Request).send(REQUESTS[0])
