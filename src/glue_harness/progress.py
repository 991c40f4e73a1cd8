"""Progress bars that a terminal and a log file can both bear."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

LOG_INTERVAL_SECONDS = 30.0


def open_bar(**settings: Any) -> tqdm:
    """Return a bar on stderr; where that is no terminal it adds a line now and then, not ten a second."""
    interval = 0.1 if sys.stderr.isatty() else LOG_INTERVAL_SECONDS
    return tqdm(mininterval=interval, maxinterval=interval, dynamic_ncols=True, **settings)
