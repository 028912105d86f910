"""The daemon's sockets. Nothing else of the daemon knows ZeroMQ, but `daemon/express.pyx`, which receives by libzmq.

    sockets   the context, and options that every socket gets
    lock      one daemon per socket file
    inbox     where publishers' frames arrive
    control   where workers and monitors talk
    link      one worker's own socket
    bells     sockets of packets, for the workers on this machine
    doorbells a place for one message, for each publisher on it
    packets   who knocks at the Unix sockets of both
    listener  what inbox, control and link have in common: bound, shut, bound anew
    curve     keys
    monitor   a monitor's side of the control channel
    descriptors  how many files are open, and may be

A socket belongs to the thread that runs the loop. Each trap of libzmq that is met here is named where it is disarmed.
"""
