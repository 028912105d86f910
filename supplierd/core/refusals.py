"""What the supplier says no to."""


class RefusalError(Exception):
    """A JOIN that cannot succeed. `reason` is a short constant, the text is for people."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class FrameRefusedError(Exception):
    """A frame that is not distributed. `reason` is a short constant, the text is for people."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
