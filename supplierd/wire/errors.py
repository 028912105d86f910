"""The one error of the wire format.

Its `reason` is a short constant (one of REASONS) that serves as a metric label, so a peer can never invent one;
its text is for people and says what was wrong and what was expected.
"""

REASONS = (
    "truncated",  # shorter than its own length fields say
    "bad_magic",  # not a supplierd frame
    "bad_version",  # a wire version that this side does not speak
    "bad_header",  # the msgpack header does not decode, or a field is missing or of the wrong type
    "bad_name",  # a stream's or worker's name outside the allowed form
    "bad_payload",  # payload size that dtype and shape do not explain
    "empty_payload",  # a frame without content
    "oversized",  # larger than the configured limit
    "multipart",  # more than one message part
    "stale_descriptor",  # a frame in shared memory whose slot had been used again before it was looked at
    "no_arena",  # a frame in shared memory that this side cannot reach
    "bad_message",  # a control message that does not decode or has wrong fields
)


class WireError(ValueError):
    """A message that does not follow the wire format.

    Attributes:
        reason: one of REASONS.
    """

    def __init__(self, reason: str, text: str) -> None:
        assert reason in REASONS, reason
        super().__init__(text)
        self.reason = reason


def shown(value: object) -> str:
    """A peer's value, for people: itself where it is plain, else its kind. Nested as deep as msgpack permits, it has no
    repr."""
    plain = (str, bytes, int, float, type(None))
    if isinstance(value, plain) or (isinstance(value, list) and all(isinstance(item, plain) for item in value)):
        return f"{value!r:.80}"
    return f"a {type(value).__name__}"
