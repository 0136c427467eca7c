"""The SCORER child: label scoring for one model, on a Unix socket, one request after another.

Started by `supervisor` as a program; nothing imports it. Where the C API cannot be used, the child starts all the same
and says so to every request, so that callers can tell "not here" from "broken" and use the server instead.
"""

from __future__ import annotations

import hmac
import importlib.metadata
import select
import socket
import time

from rung.engines.llama_cpp import child_frame
from rung.engines.llama_cpp.handshake import Instructions, Ready
from rung.engines.llama_cpp.scoring import wire
from rung.engines.llama_cpp.scoring.availability import LIBRARY, ScorerUnavailable
from rung.engines.llama_cpp.scoring.capi import EvaluationFailed, Interrupted, Model
from rung.engines.llama_cpp.scoring.scorer import SEQUENCES, Scorer
from rung.engines.llama_cpp.scoring.wire import Fault, FaultKind
from rung.engines.llama_cpp.text_runs import run_problem
from rung.errors import EngineProtocolError, EngineRefused, EngineUnsupported

_READ_S = 10.0
"""A caller writes its whole request at once; one that does not must not keep the others waiting for longer."""

_LOOK_S = 0.05  # between two looks whether the caller is still there


class Desk:
    """Takes requests off the socket.

    Args:
        instructions: the model, the socket and its key.
    """

    def __init__(self, instructions: Instructions) -> None:
        self._key = instructions.key.encode()
        self._model: Model | None = None
        self._unavailable: ScorerUnavailable | None = None
        try:
            self._model = Model(instructions.parameters, SEQUENCES)
        except ScorerUnavailable as error:
            self._unavailable = error
        else:
            self._scorer = Scorer(
                self._model,
                context=instructions.parameters.context,
                wave_tokens=instructions.parameters.batch_tokens,
            )
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(instructions.socket)
        self._listener.listen(instructions.parameters.slots + 16)

    def serve(self) -> None:
        """Answer until the process ends."""
        while True:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(_READ_S)
                try:
                    self._serve_one(connection)
                except (OSError, EngineProtocolError, Interrupted):
                    continue  # the caller is gone, or is none of ours

    def _serve_one(self, connection: socket.socket) -> None:
        if not hmac.compare_digest(_receive(connection, wire.KEY_BYTES), self._key):
            return
        body = _receive(connection, wire.REQUEST_BYTES)
        caller = _Caller(connection)
        if not caller.gone():
            connection.sendall(wire.encode(self._answer(body, caller)))

    def _answer(self, body: bytes, caller: _Caller) -> wire.Reply:
        try:
            return self._reply(wire.decode_request(body), caller)
        except ScorerUnavailable as error:
            return Fault(FaultKind.UNAVAILABLE, error.message, error.hint)
        except EngineUnsupported as error:
            return Fault(FaultKind.UNSUPPORTED, error.message, error.hint)
        except (EngineRefused, EngineProtocolError) as error:
            return Fault(FaultKind.REFUSED, error.message, error.hint)
        except (EvaluationFailed, MemoryError) as error:
            return Fault(FaultKind.FAILED, str(error) or "the engine process is out of memory")

    def _reply(self, request: wire.Request, caller: _Caller) -> wire.Reply:
        if self._model is None:
            raise self._unavailable or ScorerUnavailable("labels cannot be scored here")
        match request:
            case wire.TokenizeRequest():
                return wire.Tokens(_tokens(self._model, request, caller))
            case wire.FactsRequest():
                return _facts(self._model, self._scorer.context)
            case wire.ScoreRequest():
                scores = self._scorer.score(request, caller.gone)
                return wire.Scored(
                    scores.probabilities.astype("<f8").tobytes(),
                    scores.prompt_tokens,
                    scores.problems,
                )


class _Caller:
    """Who waits for an answer.

    Args:
        connection: theirs.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._looked = 0.0
        self._gone = False

    def gone(self) -> bool:
        """Whether they hung up; cheap enough to ask all the time."""
        now = time.monotonic()
        if not self._gone and now - self._looked >= _LOOK_S:
            self._looked = now
            try:
                readable, _, _ = select.select([self._connection], [], [], 0)
                self._gone = bool(readable) and not self._connection.recv(1, socket.MSG_PEEK)
            except OSError:
                self._gone = True
        return self._gone


def _tokens(model: Model, request: wire.TokenizeRequest, caller: _Caller) -> list[list[int]]:
    """The tokens of each text.

    Raises:
        EngineRefused: a text would end this process.
        Interrupted: the caller is gone.
    """
    tokens = []
    for text in request.texts:
        if (problem := run_problem(text)) is not None:
            raise EngineRefused(problem)
        if caller.gone():
            raise Interrupted
        tokens.append(model.tokenize(text, parse_special=request.parse_special))
    return tokens


def _facts(model: Model, context: int) -> wire.ModelFacts:
    vocabulary = model.vocabulary
    return wire.ModelFacts(
        template=model.template,
        n_vocab=vocabulary.size,
        ends=vocabulary.ends,
        bos=vocabulary.bos,
        add_bos=vocabulary.add_bos,
        context_train=model.context_train,
        context=context,
        metadata=model.metadata,
    )


def _receive(connection: socket.socket, most: int) -> bytes:
    """One frame's body.

    Raises:
        EngineProtocolError: it is longer than `most`, or the caller hung up inside it.
    """
    (length,) = wire.HEADER.unpack(_exactly(connection, wire.HEADER.size))
    if length > most:
        raise EngineProtocolError(f"a frame of {length} bytes; at most {most} are taken")
    return _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        piece = connection.recv(min(count - len(received), 1 << 20))
        if not piece:
            raise EngineProtocolError("the caller hung up")
        received += piece
    return bytes(received)


_DESKS: list[Desk] = []


def load(instructions: Instructions) -> Ready:
    """Load the model and open the socket."""
    _DESKS.append(Desk(instructions))
    return Ready(build=f"{LIBRARY} {importlib.metadata.version(LIBRARY)}")


def serve() -> None:
    """Answer requests until the process ends."""
    _DESKS[0].serve()


if __name__ == "__main__":
    child_frame.run(load, serve)
