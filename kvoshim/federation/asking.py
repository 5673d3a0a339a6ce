"""Questions to registered processes of other hosts, and theirs to processes of this one: a request to the server of the host that is
asked, on a subject that bears its name."""

from __future__ import annotations

import asyncio
import itertools

import msgspec
from nats.aio.msg import Msg

from kvoshim.federation import keys
from kvoshim.federation.connecting import FAILURES, Connection
from kvoshim.registry.daemon import bridging

_ANSWER_S = 30.0
_PENDING_MAX = 256  # questions of other hosts that are not answered yet
_encode = msgspec.msgpack.encode


class _Question(msgspec.Struct, array_like=True):
    id: int
    what: bridging.What


class _Answer(msgspec.Struct, array_like=True):
    text: bridging.Text
    code: str = ""


def _subject(connection: Connection, host: str) -> str:
    return f"{connection.bucket}.ask.{keys.token(host)}"


async def ask(connection: Connection | None, host: str, question: bridging.Question) -> bridging.Answer:
    """The answer, whatever becomes of it."""
    if connection is None:
        return bridging.Answer(question.number, f"host {host} cannot be reached for now", "no-answer")
    try:
        message = await connection.client.request(
            _subject(connection, host), _encode(_Question(question.id, question.what)), timeout=_ANSWER_S
        )
        answer = msgspec.msgpack.decode(message.data, type=_Answer)
    except FAILURES + (msgspec.MsgspecError,) as error:
        return bridging.Answer(question.number, f"host {host} has not answered: {type(error).__name__}", "no-answer")
    return bridging.Answer(question.number, answer.text, answer.code)


class Asked:
    """What other hosts ask. say(message): to the registry."""

    def __init__(self, host: str, say) -> None:
        self._host = host
        self._say = say
        self._numbers = itertools.count(1)
        self._pending: dict[int, Msg] = {}

    async def attach(self, connection: Connection) -> None:
        await connection.client.subscribe(_subject(connection, self._host), cb=self._take)

    async def _take(self, message: Msg) -> None:
        try:
            question = msgspec.msgpack.decode(message.data, type=_Question)
        except msgspec.MsgspecError:
            return
        if not message.reply or len(self._pending) >= _PENDING_MAX:
            return
        number = next(self._numbers)
        self._pending[number] = message
        asyncio.get_running_loop().call_later(_ANSWER_S, self._pending.pop, number, None)
        self._say(bridging.Asked(number, question.id, question.what))

    async def answer(self, reply: bridging.Reply) -> None:
        message = self._pending.pop(reply.number, None)
        if message is not None:
            try:
                await message.respond(_encode(_Answer(reply.text, reply.code)))
            except FAILURES:
                pass
