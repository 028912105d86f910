"""The wire format: frame messages, control messages, names and endpoints. Sans-I/O; shared with the clients.

frame      one frame as one message part
encoder    heads that are much alike
bell       the short forms for workers on the daemon's machine
doorbell   by which publishers on the daemon's machine put messages into an inbox
control    what workers, monitors and the daemon tell each other
names      the rule for names of streams and workers
endpoints  the runtime directory and the sockets in it
keys       key files
errors     WireError and its reasons
"""

from supplierd.wire.errors import WireError

__all__ = ["WireError"]
