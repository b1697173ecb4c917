"""Hillstrom's e-mail trial: a strict funnel of visit, conversion and spend.

K. Hillstrom, "The MineThatData E-Mail Analytics And Data Mining Challenge", 2008,
https://blog.minethatdata.com/2008/03/minethatdata-e-mail-analytics-and-data.html.
64,000 customers who had bought within a year got one of two e-mails or none, at
random, and were followed for two weeks. The file is fetched by the builder
`hillstrom` of the TFDS catalogue or read from a disk; its checksum is verified.

A row is a customer. Task `visit` has a label everywhere, `conversion` lives in the
space of visits, and `spend`, in dollars, in that of conversions. The file keeps
`spend` between 0 and 499, which is the upper end of the task.

Nine features: `recency` (months since the last purchase) and `history` (dollars
spent last year; its logarithm, as its tail is long) are numeric, and the others
categorical. `segment`, the e-mail sent, is what was shown: the item. No field is the
customer's id: `history_segment` stands for the user in the schema; for intervals
every row is a user of its own. There is no time: rows are split by a hash of their
number in the file, 70/15/15.
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import numpy as np
from tensorflow_datasets.recommendation.hillstrom.hillstrom import Hillstrom

from jaxmtl.data.log import Log
from jaxmtl.data.reading.catalogue import find_or_fetch
from jaxmtl.data.reading.delimited import open_bytes, read_columns
from jaxmtl.data.reading.scaling import moments, standardise
from jaxmtl.data.reading.splitting import by_hash, divide
from jaxmtl.data.reading.vocabulary import encode
from jaxmtl.types import Field, Rows, Schema, Task

SHA256 = "0e5893329d8b93cefecc571777672028290ab69865718020c78c7284f291aece"
"""Of the unpacked file."""
NAMES = (
    "hillstrom.csv.gz",
    "hillstrom.csv",
    "Kevin_Hillstrom_MineThatData_E-MailAnalytics_DataMiningChallenge_2008.03.20.csv",
)
FIELDS = tuple(
    Field(name, name)
    for name in (
        "history_segment",
        "mens",
        "womens",
        "zip_code",
        "newbie",
        "channel",
        "segment",
    )
)
NUMERIC = ("recency", "history")
MOST_SPENT = 499.0
TASKS = (
    Task("visit"),
    Task("conversion", space="visit"),
    Task("spend", kind="continuous", space="conversion", high=MOST_SPENT, metric="mse"),
)


def find_files(path: str | Path | None = None) -> tuple[Path]:
    """The file: `path`, the one in the folder `path`, or the one TFDS downloads.

    Raises:
      ValueError: it is not there, or could not be downloaded.
    """
    advice = (
        f"get {NAMES[-1]} from http://www.minethatdata.com and give the file, which"
        " may be gzipped, or its folder as the path"
    )
    return (find_or_fetch(path, NAMES, Hillstrom, advice),)


def read(path: str | Path | None = None) -> Log:
    """Reads the trial.

    Args:
      path: the file, packed or not, or its folder; by default TFDS downloads it.

    Returns:
      Tasks `visit` (CTR), `conversion` (CVR) and `spend`, seven fields, and two
      numeric features standardised over the training rows. No extras.

    Raises:
      ValueError: the file is missing, or is not the published one, by its checksum.
    """
    (file,) = find_files(path)
    _verify(file)
    columns = read_columns(
        file,
        {
            **{field.name: str for field in FIELDS},
            **{task.name: bool if task.kind == "binary" else float for task in TASKS},
            **dict.fromkeys(NUMERIC, float),
        },
    )
    row = np.arange(columns["visit"].size)
    split = by_hash(row)
    vocabularies, ids = encode(FIELDS, columns, split == 0)
    numeric = np.stack([columns["recency"], np.log1p(columns["history"])], axis=1)
    shown = np.unique(columns["segment"], return_inverse=True)[1]
    rows = Rows(
        ids=ids,
        numeric=standardise(numeric, moments(numeric[split == 0])),
        labels={task.name: columns[task.name].astype(np.float32) for task in TASKS},
        extras={},
        groups={"user": row.astype(np.int32), "item": shown.astype(np.int32)},
    )
    schema = Schema(
        name="hillstrom",
        fields=FIELDS,
        vocabularies=vocabularies,
        tasks=TASKS,
        ctr="visit",
        cvr="conversion",
        user="history_segment",
        item="segment",
        numeric=NUMERIC,
    )
    return Log(
        schema=schema,
        splits=divide(rows, split),
        counts={"read": row.size, "kept": row.size},
        notes=(
            "Hillstrom's MineThatData e-mail trial of 2008; no licence stated: not to"
            " be redistributed.",
            f"{row.size:,} customers and nine features: expect wide intervals, use"
            f" many seeds. {int(rows.labels['conversion'].sum()):,} conversions.",
        ),
    )


def _verify(file: Path) -> None:
    try:
        with open_bytes(file) as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file}: {error}; get it again") from error
    if found != SHA256:
        raise ValueError(
            f"{file}: its content's sha256 is {found}, expected {SHA256}: the file is"
            " damaged or another version; get it again"
        )
