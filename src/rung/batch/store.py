"""What a batch keeps in the ledger's database: how far each run is, and answers that are not in its output yet.

    batch_run      one row an output: what was asked of what (fixed), and the checkpoint (moved)
    batch_result   answers recorded with their receipts and not yet written; erased when they are

Everything here works on a connection inside a transaction of the ledger's writer.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa

from rung.batch.tally import Tally
from rung.ids import ID_LENGTH
from rung.receipt import Answer
from rung.rows.file import START, Position

METADATA = sa.MetaData()

_RUN = sa.Table(
    "batch_run",
    METADATA,
    sa.Column("id", sa.String(ID_LENGTH), primary_key=True),
    sa.Column("output", sa.String, nullable=False, unique=True),
    sa.Column("job", sa.LargeBinary, nullable=False),  # `Run` as JSON
    sa.Column("checkpoint", sa.LargeBinary, nullable=False),  # `Checkpoint` as JSON
)

_RESULT = sa.Table(
    "batch_result",
    METADATA,
    sa.Column("run", sa.String(ID_LENGTH), primary_key=True),
    sa.Column("first_row", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("last_row", sa.BigInteger, nullable=False),
    sa.Column("answers", sa.LargeBinary, nullable=False),  # [(row, Answer), …], MessagePack, zlib
)


class Source(msgspec.Struct, frozen=True):
    """What an input file was: enough to see that it has changed.

    Attributes:
        path: its full path.
        size: in bytes.
        mtime_ns: when it was last written.
        digest: SHA-256 of its beginning and its end.
    """

    path: str
    size: int
    mtime_ns: int
    digest: str


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What a run asks of what; fixed when it begins.

    Attributes:
        id: sortable unique id.
        task, task_digest: what is asked.
        target: the error bound asked for.
        source: the input.
        output, rejects: full paths of what is written.
        created: UTC, ISO 8601.
    """

    format: int = 1
    id: str
    task: str
    task_digest: str
    target: float
    source: Source
    output: str
    rejects: str
    created: str


class Written(msgspec.Struct, frozen=True):
    """How much of a file is valid, and the bytes that this part ends with."""

    size: int = 0
    tail: bytes = b""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is.

    Attributes:
        row: the last row that was written, whether as an answer or as a reject.
        position: where reading goes on.
        output, rejects: what is valid of the two files.
        tally: of the rows up to `row`.
        seconds: wall time spent so far, by all processes together.
        finished: whether it was the last row.
    """

    row: int = 0
    position: Position = START
    output: Written = Written()
    rejects: Written = Written()
    tally: Tally = msgspec.field(default_factory=Tally)
    seconds: float = 0.0
    finished: bool = False


_run_decoder = msgspec.json.Decoder(Run)
_checkpoint_decoder = msgspec.json.Decoder(Checkpoint)
_answers_decoder = msgspec.msgpack.Decoder(list[tuple[int, Answer]])

# Built once: building a statement takes longer than running it.
_ADD_RUN = sa.insert(_RUN)
_ADD_RESULT = sa.insert(_RESULT)
_MOVE = (
    sa.update(_RUN)
    .where(_RUN.c.id == sa.bindparam("run"))
    .values(checkpoint=sa.bindparam("moved_to"))
)
_ERASE = sa.delete(_RESULT).where(
    _RESULT.c.run == sa.bindparam("run"), _RESULT.c.last_row <= sa.bindparam("written")
)


def create_tables(connection: sa.Connection) -> None:
    """Make the tables where they are missing."""
    METADATA.create_all(connection)


def find_run(connection: sa.Connection, output: str) -> tuple[Run, Checkpoint] | None:
    """The run that writes `output`, and how far it is."""
    query = sa.select(_RUN.c.job, _RUN.c.checkpoint).where(_RUN.c.output == output)
    found = connection.execute(query).first()
    if found is None:
        return None
    return _run_decoder.decode(found.job), _checkpoint_decoder.decode(found.checkpoint)


def add_run(connection: sa.Connection, run: Run) -> None:
    """Begin a run in place of any other that wrote the same output."""
    older = connection.scalars(sa.select(_RUN.c.id).where(_RUN.c.output == run.output)).all()
    connection.execute(sa.delete(_RESULT).where(_RESULT.c.run.in_(older)))
    connection.execute(sa.delete(_RUN).where(_RUN.c.id.in_(older)))
    row = {
        "id": run.id,
        "output": run.output,
        "job": msgspec.json.encode(run),
        "checkpoint": msgspec.json.encode(Checkpoint()),
    }
    connection.execute(_ADD_RUN, row)


def add_answers(connection: sa.Connection, run: str, answers: Sequence[tuple[int, Answer]]) -> None:
    """Keep answers, each with its row, until they are written."""
    rows = [row for row, _ in answers]
    packed = zlib.compress(msgspec.msgpack.encode(answers), 1)
    block = {"run": run, "first_row": min(rows), "last_row": max(rows), "answers": packed}
    connection.execute(_ADD_RESULT, block)


def read_answers(connection: sa.Connection, run: str, after: int) -> Iterable[tuple[int, Answer]]:
    """Recorded answers of rows behind `after`: at most a window of them."""
    query = sa.select(_RESULT.c.answers).where(_RESULT.c.run == run)
    for packed in connection.scalars(query):
        for row, answer in _answers_decoder.decode(zlib.decompress(packed)):
            if row > after:
                yield row, answer


def move(connection: sa.Connection, run: str, checkpoint: Checkpoint) -> None:
    """Note how far the run is, and erase what is now in its output."""
    moved = {"run": run, "moved_to": msgspec.json.encode(checkpoint)}
    connection.execute(_MOVE, moved)
    connection.execute(_ERASE, {"run": run, "written": checkpoint.row})
