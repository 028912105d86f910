"""The Python client of supplierd: publish a camera's frames, or work on the freshest ones.

Publisher     puts a stream's newest frame into the daemon's inbox; never blocks
Worker        reads the freshest frame, blocking
AsyncWorker   the same for asyncio
Frame         a frame in a worker's hands
latest        drains a queue or an iterator to its newest item
"""

from supplierd_client.aio import AsyncWorker
from supplierd_client.errors import ClientError, ForkedError, LoanError, RefusedError, TakenOverError
from supplierd_client.frame import Frame
from supplierd_client.lane import Loan
from supplierd_client.latest import latest
from supplierd_client.publisher import Publisher
from supplierd_client.worker import Worker

__all__ = [
    "AsyncWorker",
    "ClientError",
    "ForkedError",
    "Frame",
    "Loan",
    "LoanError",
    "Publisher",
    "RefusedError",
    "TakenOverError",
    "Worker",
    "latest",
]
