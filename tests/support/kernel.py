"""What the kernel is that the tests run on."""

import os
import re


def kernel() -> tuple[int, int]:
    """Its version."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    assert found is not None
    return int(found[1]), int(found[2])
