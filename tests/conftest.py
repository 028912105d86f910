"""What all tests have in common: an example may take its time, as others may have the processor meanwhile; and whoever
is started gets Ctrl-C, which a shell's background jobs and their children ignore."""

import signal

from hypothesis import settings

settings.register_profile("supplierd", deadline=None)
settings.load_profile("supplierd")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
