"""What can go wrong for a user of the client."""


class ClientError(Exception):
    """Base of the client's errors."""


class RefusedError(ClientError):
    """The daemon refused the worker, and would again.

    Attributes:
        reason: a short constant, such as "unknown_worker".
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class TakenOverError(ClientError):
    """Another worker joined under the same name. This one gets no more frames; it must not fight for the name."""


class ForkedError(ClientError):
    """A Publisher or Worker was used in a forked child, where its sockets hang. Create it in the child, or use the
    "spawn" start method of multiprocessing."""


class LoanError(ClientError):
    """A loan was used after it was published or released, or with another publisher."""
