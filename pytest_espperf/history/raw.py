"""Raw samples of a phase on disk, where they are asked for: one gzipped CSV file a phase."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
from pathlib import Path

from pytest_espperf.history import files
from pytest_espperf.model.samples import PhaseSamples

MAX_ROWS = 1_000_000
"""Rows kept of a phase; of a longer one every second, third, ... is, and the file's first line says so."""

COLUMNS = ("start_s", "lag_s", "service_s", "ttfb_s", "path", "status", "error")


def save_samples(folder: Path, name: str, samples: PhaseSamples, *, most: int = MAX_ROWS) -> Path:
    """Write the samples of one phase, atomically.

    The columns are those of :class:`pytest_espperf.model.samples.PhaseSamples`, seconds with microseconds;
    ``lag_s`` is empty in a closed loop, ``ttfb_s`` where no byte came, ``error`` for an ok request.

    Args:
        folder: where to; made if it is missing.
        name: of the phase, as ``run1-python_heavy-burst``; what no file name may hold becomes ``_``.
        samples: what was observed.
        most: rows at most.

    Returns:
        the file.

    Raises:
        HistoryError: it cannot be written.
    """
    step = max(1, math.ceil(len(samples) / most))
    text = io.StringIO()
    if step > 1:
        text.write(f"# 1 of {step} of {len(samples)} samples\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    open_loop = len(samples.lag_s) > 0
    for index in range(0, len(samples), step):
        outcome = samples.outcomes[samples.outcome[index]]
        ttfb_s = samples.ttfb_s[index]
        writer.writerow(
            (
                f"{samples.start_s[index]:.6f}",
                f"{samples.lag_s[index]:.6f}" if open_loop else "",
                f"{samples.service_s[index]:.6f}",
                "" if math.isnan(ttfb_s) else f"{ttfb_s:.6f}",
                samples.paths[samples.path[index]],
                outcome.status if outcome.status is not None else "",
                outcome.error or "",
            )
        )
    files.make_writable(folder)
    path = folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.csv.gz"
    files.write_atomic(folder, path.name, gzip.compress(text.getvalue().encode(), mtime=0))
    return path
