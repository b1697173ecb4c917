"""Any log as a TFDS data set: ArrayRecord files, a block of rows a record.

Written and read without TensorFlow. Records hold blocks, since a row a record
would read at some ten thousand rows a second.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from jaxmtl.data.log import SPLITS, Log
from jaxmtl.data.store.checks import check_rows
from jaxmtl.types import GROUPS, Rows

SHARD = 64
"""Blocks a file."""


class MultiTaskLog(tfds.core.GeneratorBasedBuilder):
    """A multi-task log of any schema, one TFDS configuration a data set."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, log: Log, config: str, data_dir: str):
        self._log = log
        self.rows: dict[str, int] = {}
        super().__init__(
            config=tfds.core.BuilderConfig(name=config, version="1.0.0"),
            data_dir=data_dir,
            file_format="array_record",
        )

    def _info(self) -> tfds.core.DatasetInfo:
        schema = self._log.schema

        def column(dtype, *width: int):
            # As bytes: a number at a time takes three times as long.
            return tfds.features.Tensor(
                shape=(None, *width), dtype=dtype, encoding="bytes"
            )

        columns = {
            "ids": column(np.int32, schema.slots),
            "labels": {t.name: column(np.float32) for t in schema.tasks},
            "groups": {name: column(np.int32) for name in GROUPS},
        }
        # TFDS stores neither arrays without width nor groups without members.
        if schema.numeric:
            columns["numeric"] = column(np.float32, len(schema.numeric))
        if schema.extras:
            columns["extras"] = {name: column(np.float32) for name in schema.extras}
        return tfds.core.DatasetInfo(
            builder=self,
            description="\n".join(self._log.notes),
            features=tfds.features.FeaturesDict(columns),
            metadata=tfds.core.MetadataDict(schema=schema.to_json()),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # sources bring their own files
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str):
        self.rows[split] = 0
        for number, rows in enumerate(self._log.splits.get(split, ())):
            check_rows(self._log.schema, rows, f"{split}, block {number}")
            self.rows[split] += rows.num_rows
            example = rows._asdict()
            yield number, {name: example[name] for name in self.info.features}
        if not self.rows[split]:
            raise ValueError(
                f"split {split!r} holds no row; counts {self._log.counts}; use a larger"
                " log or other split bounds"
            )

    def release(self) -> None:
        """Lets the log go: TFDS keeps every builder that it ever made."""
        self._log = None


def build(folder: Path, name: str, log: Log) -> dict[str, int]:
    """Writes a log as the TFDS data set `multi_task_log/<name>` in a folder.

    Returns:
      Split -> its number of rows.

    Raises:
      ValueError: a block breaks the schema (names split, block, row and column),
        or a split holds no row.
    """
    with _quiet():
        builder = MultiTaskLog(log=log, config=name, data_dir=str(folder))
        Path(builder.data_dir).mkdir(parents=True)
        # `download_and_prepare` would hold a whole split in memory to shuffle it.
        writer = tfds.core.SequentialWriter(
            builder.info, max_examples_per_shard=SHARD, file_format="array_record"
        )
        writer.initialize_splits(list(SPLITS))
        for split, examples in builder._split_generators(None).items():
            for _, example in examples:
                writer.add_examples({split: [example]})
            writer.close_splits([split])
        builder.release()
    return builder.rows


def read_blocks(folder: Path, split: str) -> Iterator[Rows]:
    """The blocks of a split, in the order they were written."""
    (config,) = (folder / MultiTaskLog.name).iterdir()
    builder = tfds.builder_from_directory(str(config / str(MultiTaskLog.VERSION)))
    source = builder.as_data_source(split)
    for number in range(len(source)):
        block = source[number]
        without = np.zeros((len(block["ids"]), 0), np.float32)
        numeric = block.get("numeric", without)
        yield Rows(
            block["ids"],
            numeric,
            block["labels"],
            block.get("extras", {}),
            block["groups"],
        )


@contextlib.contextmanager
def _quiet():
    """Keeps TFDS's progress bars and notices off the run's own."""
    level = logging.getLogger("absl").level
    logging.getLogger("absl").setLevel(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.getLogger("absl").setLevel(level)
        tfds.enable_progress_bar()
