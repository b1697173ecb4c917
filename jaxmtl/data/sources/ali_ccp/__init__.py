"""Ali-CCP, the public log of clicks and purchases that DCRNN is measured on.

Ma et al., "Entire Space Multi-Task Model" (SIGIR 2018), published it at
https://tianchi.aliyun.com/dataset/dataDetail?dataId=408: some 42 million
impressions for training and as many for the test, of which 3.9 % are clicked and
one in 4,584 is followed by a purchase. Two forms are read: the raw files, and the
preprocessed CSV files that other libraries use.
"""

from __future__ import annotations

from pathlib import Path

from jaxmtl.data.log import Log
from jaxmtl.data.sources.ali_ccp.join import FILES, read_raw
from jaxmtl.data.sources.ali_ccp.preprocessed import (
    SPLITS,
    find_files,
    read_preprocessed,
)
from jaxmtl.data.sources.ali_ccp.protocol import AliCcpOptions


def read(path: str | Path, options: AliCcpOptions | None = None) -> Log:
    """Reads Ali-CCP from a folder, in whichever of its two forms is there.

    Args:
      path: folder of the four raw files (`sample_skeleton_train.csv` and so on) or
        of the preprocessed ones, `ali_ccp_{train,val,test}*.csv`. The raw form
        wants a temporary folder of some 250 bytes a row: set TMPDIR to a disk that
        has them, 20 GB for the whole data.
      options: which rows and ids are kept; by default those of most papers.

    Returns:
      Tasks `click` (which plays CTR) and `conversion`, given a click (CVR). Blocks
      are made as they are read, so the log never lies in memory whole.

    Raises:
      ValueError: a file is missing or damaged (names it, with the line), or holds
        fewer rows than should be drawn.
    """
    options = options or AliCcpOptions()
    folder = Path(path)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if not missing:
        return read_raw(folder, options)
    found = find_files(folder)
    if len(missing) == len(FILES) and found:
        if absent := [SPLITS[split] for split in SPLITS if split not in found]:
            raise ValueError(
                f"{folder} holds preprocessed files of Ali-CCP, but no"
                f" {', '.join(f'ali_ccp_{name}*.csv' for name in absent)};"
                " put all three there"
            )
        return read_preprocessed(folder, options)
    raise ValueError(
        f"{folder} holds no {', '.join(missing)}. Ali-CCP needs an account at Tianchi:"
        " download sample_train.tar.gz and sample_test.tar.gz from"
        " https://tianchi.aliyun.com/dataset/dataDetail?dataId=408 and unpack both into"
        " that folder"
    )


def files_of(folder: Path) -> list[Path]:
    """The files that `read` would read, of those that are there."""
    raw = [folder / name for name in FILES if (folder / name).is_file()]
    return raw or list(find_files(folder).values())
