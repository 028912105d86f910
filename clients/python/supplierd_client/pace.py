"""How old the frames of a stream use to be when they arrive: one that is older has waited in a socket."""

from typing import Final

PACE_MARGIN: Final = 0.020
"""Seconds by which a frame may exceed its stream's interval: scheduling on a busy machine."""
PACE_WEIGHT: Final = 0.125
"""Weight of the newest age in the moving average; with DEVIATIONS, as TCP estimates its round trip (RFC 6298)."""
DEVIATIONS: Final = 4


class Pace:
    """What is known of one stream: its interval, and how old its frames use to be on arrival; in seconds.

    Args:
        epoch, seq, captured: of the first frame; `captured` in ns of its publisher's clock.
    """

    def __init__(self, epoch: int, seq: int, captured: int) -> None:
        self.epoch, self.seq, self.captured = epoch, seq, captured
        self.interval = self.age = self.deviation = 0.0

    def suspects(self, age: float) -> bool:
        """Whether a frame of this age must have waited somewhere."""
        interval = self.interval
        return interval > 0.0 and age > interval + PACE_MARGIN and age > self.age + DEVIATIONS * self.deviation

    def learn(self, epoch: int, seq: int, captured: int, age: float) -> None:
        """A frame was handed out: `captured` in ns of its publisher's clock, `age` in seconds."""
        if epoch == self.epoch and seq > self.seq:
            self.interval = (float(captured) - float(self.captured)) / (seq - self.seq) / 1e9
        self.epoch, self.seq, self.captured = epoch, seq, captured
        if not self.deviation:
            self.age, self.deviation = age, abs(age) / 2
        self.deviation += (abs(age - self.age) - self.deviation) * PACE_WEIGHT * 2
        self.age += (age - self.age) * PACE_WEIGHT
