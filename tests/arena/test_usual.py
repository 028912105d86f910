"""What a writer does for nearly every frame, in C: after any history its state is the one that the writer's own way
leaves, and so are the frames."""

from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supplierd.arena import ArenaReader, Descriptor, NoFreeSlotError, StaleDescriptorError, usual
from supplierd.arena import writer as writer_module
from supplierd.arena.writer import ArenaWriter
from tests.support.twins import in_python, is_compiled

SLOTS = 6
SIZES = st.sampled_from([1, 100, 5000, 200_000, 300_000, 900_000])  # the last ones need another arena than the first
WHICH = st.integers(0, 7)

histories = st.lists(
    st.one_of(
        st.tuples(st.just("store"), SIZES),
        st.tuples(st.just("store_strided"), SIZES),
        st.tuples(st.just("acquire"), SIZES),
        st.tuples(st.just("commit"), WHICH),
        st.tuples(st.just("abandon"), WHICH),
        st.tuples(st.just("hold"), WHICH),
        st.tuples(st.just("release"), WHICH),
    ),
    max_size=60,
)


held_ones = st.lists(  # many slots are held here, each for a while
    st.one_of(
        st.tuples(st.just("store"), st.just(100)),
        st.tuples(st.just("hold"), st.integers(2, 3)),
        st.tuples(st.just("release"), WHICH),
    ),
    min_size=20,
    max_size=60,
)


class History:
    """A writer with a module for what is usual, and whatever happens to it.

    Attributes:
        seen: after each step, what it gave and the writer's state.
    """

    def __init__(self, module: ModuleType, directory: Path) -> None:
        self._module = module
        self._writer = ArenaWriter(directory, "cam-1", slots=SLOTS, spare=2)
        self._reader = ArenaReader(directory)
        self._loans: list[Any] = []
        self._held: list[Any] = []
        self._frames: list[Descriptor] = []
        self._value = 0
        self.seen: list[Any] = []

    def __enter__(self) -> "History":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._reader.close()

    def run(self, steps: list[tuple[str, int]]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(writer_module, "usual", self._module)
            for step, number in steps:
                try:
                    given = getattr(self, step)(number)
                except (NoFreeSlotError, StaleDescriptorError) as error:
                    given = type(error)
                self.seen.append((step, given, self._state()))

    def store(self, size: int) -> Any:
        return self._publish(self._writer.store(np.full(size, self._next(), np.uint8)))

    def store_strided(self, size: int) -> Any:
        return self._publish(self._writer.store(np.full((size, 2), self._next(), np.uint8)[:, 0]))

    def acquire(self, size: int) -> int:
        self._loans.append(self._writer.acquire(size))
        return len(self._loans)

    def commit(self, which: int) -> Any:
        if not self._loans:
            return None
        loan = self._loans.pop(which % len(self._loans))
        loan.bytes()[:] = self._next()
        return self._publish(loan.commit(max(1, loan.size // 2)))

    def abandon(self, which: int) -> None:
        if self._loans:
            self._loans.pop(which % len(self._loans)).abandon()

    def hold(self, which: int) -> Any:
        if not self._frames:
            return None
        frame = self._frames[-1 - which % len(self._frames)]
        self._held.append(self._reader.lease(frame))
        return self._held[-1].as_array(np.uint8, (frame.size,))[[0, -1]].tolist()

    def release(self, which: int) -> None:
        if self._held:
            self._held.pop(which % len(self._held))

    def _next(self) -> int:
        self._value = (self._value + 1) % 256
        return self._value

    def _publish(self, frame: Descriptor) -> Any:
        self._frames.append(frame)
        return frame[1:]

    def _state(self) -> Any:
        writer = self._writer
        arena = writer._arena
        return arena and (
            arena.warm[:], list(arena.spared), arena.cold[:], arena.depth, arena.lent, arena.allocated[:],
            arena.published_at[:], arena.last_published, arena.largest, arena.generation, arena.table.tolist(),
            writer._published, writer._review_at, len(writer._retired), len(writer._returned),
        )  # fmt: skip


def after(module: ModuleType, steps: list[tuple[str, int]]) -> list[Any]:
    with TemporaryDirectory(dir="/dev/shm") as directory, History(module, Path(directory)) as history:
        history.run(steps)
        return history.seen


@pytest.mark.skipif(not is_compiled(usual), reason="nothing is compiled here: nothing is usual")
@settings(deadline=None, max_examples=300)
@given(st.one_of(histories, held_ones))
def test_whatever_happens_the_state_is_that_of_the_writers_own_way(steps: list[tuple[str, int]]) -> None:
    assert after(usual, steps) == after(in_python(usual), steps)


@pytest.mark.skipif(not is_compiled(usual), reason="nothing is compiled here: nothing is usual")
def test_nearly_every_frame_is_usual(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0
    take = ArenaWriter._take

    def counted(writer: ArenaWriter, size: int) -> Any:
        nonlocal taken
        taken += 1
        return take(writer, size)

    monkeypatch.setattr(ArenaWriter, "_take", counted)
    with ArenaWriter(directory, "cam-1") as writer:
        picture = np.zeros(1000, np.uint8)
        for _ in range(320):
            writer.store(picture)
        stored, taken = taken, 0
        for _ in range(320):
            writer.acquire(1000).commit()
    assert stored <= 320 // writer_module.TRIM_EVERY + 5  # those before a review, and the first ones
    assert taken <= 320 // writer_module.TRIM_EVERY + 5
