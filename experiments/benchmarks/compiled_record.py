"""One program compiled for one target, and what its text says; run by `compiled`.

    python -m experiments.benchmarks.compiled_record PROGRAM TARGET IDS SCALE FILE

In a process of its own, whose environment `compiled_targets.ENVIRONMENT` has set: it
may take too long or run out of memory without ending the others.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from experiments.benchmarks.compiled_programs import MAKERS, SCALES
from experiments.benchmarks.compiled_targets import TARGETS
from experiments.benchmarks.compiled_text import read_step
from experiments.running.workdir import write_json


def compiled_record(name: str, target: str, ids: int, scale: str) -> dict[str, Any]:
    """What is told of a compiled program, of one device and one step.

    Args:
      name: of the program (`compiled_programs.MAKERS`).
      target: name of the devices.
      ids: over all vocabularies.
      scale: name of how large it is.
    """
    on = TARGETS[target]
    program = MAKERS[name](on, ids, SCALES[scale])
    lowered = program.lower(on.platform)
    began = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - began
    memory = compiled.memory_analysis()
    step = read_step(compiled.as_text(), program.steps, program.tables, program.lookups)
    return {
        "program": name,
        "target": target,
        "devices": on.devices,
        "ids": ids,
        "batch_per_device": program.batch,
        "compile_seconds": round(seconds, 1),
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "sent_bytes_per_step": round(step.sent_bytes),
        "table_copies_in_step": step.table_copies,
        "serial_loops": step.serial_loops,
    }


if __name__ == "__main__":
    name, target, ids, scale, path = sys.argv[1:]
    write_json(Path(path), compiled_record(name, target, int(ids), scale))
