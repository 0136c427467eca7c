"""Every error Rung raises on purpose, one tree, importing nothing of Rung.

    RungError                     code, message, hint, exit_code
    ├── UserError                 you can fix this (exit 2, StorageError 3)
    │   ├── ConfigError           rung.toml or a task file is wrong
    │   ├── SuiteError            a labelled-example file is wrong
    │   ├── InputError            a file or a text to be answered is wrong
    │   ├── ModelError            a model artefact is missing, damaged or of another format
    │   ├── CertificateError      a certificate is missing, damaged or void
    │   ├── PolicyError           policy forbids what was asked
    │   └── StorageError          the ledger or an output cannot be read or written
    ├── GateError                 the data says no: nothing passes (exit 1)
    ├── EvidenceError             not enough evidence to say yes or no (exit 4)
    ├── EngineError               one attempt on an engine failed (exit 3); carries the verdict
    │   ├── EngineTimeout         a connect, first-token, between-tokens or total limit passed
    │   ├── EngineOverloaded      the server said "later" and the retry budget is spent
    │   ├── EngineUnavailable     nothing answers at the address
    │   ├── EngineCold            the engine answers, its model is still loading
    │   ├── EngineRefused         the server refused the request (credentials, bad request)
    │   ├── EngineTruncated       the stream ended before the answer did
    │   ├── EngineProtocolError   the server answered something that is not its protocol
    │   └── EngineUnsupported     this engine cannot do what was asked
    ├── SourceError               a model's source cannot be reached or answers wrongly (exit 3)
    └── InternalError             we broke (exit 3)

A message says what was wrong (with the value), where, and what to do; the command line prints it without a
traceback and the hint on a line of its own. `code` is stable and machine-readable.
"""

from __future__ import annotations

from typing import ClassVar


class RungError(Exception):
    """Root of every deliberate error.

    Args:
        message: one sentence: what was wrong, with the value, and where.
        hint: what to do next, printed on its own line.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UserError(RungError):
    """Something the caller gave is wrong and the caller can mend it."""

    code = "usage"
    exit_code = 2


class ConfigError(UserError):
    """A settings or task file is wrong; the message starts with `file:line:` where it is known."""

    code = "config"


class SuiteError(UserError):
    """A file of labelled examples is wrong."""

    code = "suite"


class InputError(UserError):
    """A file or text to be answered is wrong."""

    code = "input"


class ModelError(UserError):
    """A model artefact is missing, damaged, or of a format that is not accepted."""

    code = "model"


class CertificateError(UserError):
    """A certificate is missing, damaged, or no longer valid for what would run."""

    code = "certificate"


class PolicyError(UserError):
    """Policy forbids what was asked."""

    code = "policy"


class StorageError(UserError):
    """The ledger or an output file cannot be opened, read or written."""

    code = "storage"
    exit_code = 3  # what was asked for was right; the run could not be carried out


class GateError(RungError):
    """The data says no, and more of it would not help."""

    code = "gate"
    exit_code = 1


class EvidenceError(RungError):
    """There is not enough evidence for either answer; more labels would help."""

    code = "evidence"
    exit_code = 4


class EngineError(RungError):
    """One attempt on an engine failed.

    Attributes:
        verdict: the name of the `Verdict` that this attempt ends with.
        charged: whether the server may have billed the attempt.
    """

    code = "engine"
    verdict: ClassVar[str] = "failed"

    def __init__(self, message: str, *, hint: str | None = None, charged: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.charged = charged


class EngineTimeout(EngineError):
    """A connect, first-token, between-tokens or total time limit passed."""

    code = "engine.timeout"
    verdict = "timeout"


class EngineOverloaded(EngineError):
    """The server asked to come back later and the retry budget is spent."""

    code = "engine.overloaded"
    verdict = "overloaded"


class EngineUnavailable(EngineError):
    """Nothing answers at the address."""

    code = "engine.unavailable"
    verdict = "failed"


class EngineCold(EngineError):
    """The engine answers, but its model is still loading."""

    code = "engine.cold"
    verdict = "cold"


class EngineRefused(EngineError):
    """The server refused the request itself: credentials, quota, or a bad request."""

    code = "engine.refused"
    verdict = "failed"


class EngineTruncated(EngineError):
    """The stream ended before the answer was complete."""

    code = "engine.truncated"
    verdict = "truncated"


class EngineProtocolError(EngineError):
    """The server answered something that is not its protocol (an HTML page, broken JSON)."""

    code = "engine.protocol"
    verdict = "failed"


class EngineUnsupported(EngineError):
    """This engine cannot do what was asked of it."""

    code = "engine.unsupported"
    verdict = "failed"


class SourceError(RungError):
    """Where a model is fetched from cannot be reached, breaks off, or does not keep to its protocol."""

    code = "source"


class InternalError(RungError):
    """Rung broke: a state that the code holds to be impossible."""

    code = "internal"


def first_of(errors: BaseExceptionGroup[Exception]) -> Exception:
    """The first error of a group of concurrent ones, so that callers catch one error and not a tree of them."""
    error = errors.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error
