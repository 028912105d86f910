"""What all tests have in common: an example may take its time, as others may have the processor meanwhile."""

from hypothesis import settings

settings.register_profile("supplierd", deadline=None)
settings.load_profile("supplierd")
