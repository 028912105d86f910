"""A worker under systemd: takes cam-1's frames, and hangs, as a model can, while its file in /run/hang exists."""

import os
import time
from pathlib import Path

from supplierd_client import Worker

NAME = os.environ["SUPPLIERD_WORKER"]
HANG = Path("/run/hang") / NAME

with Worker(NAME, ["cam-1"]) as worker:
    for frame in worker:
        frame.array.mean()
        while HANG.exists():
            time.sleep(0.1)
