"""supplierd: a daemon that hands each worker the freshest video frame and accounts for every other one.

This module holds the version and nothing else, so that a client can import the leaves `supplierd.wire`,
`supplierd.arena` and `supplierd.notify` without loading the daemon.
"""

__version__ = "0.1.0"
