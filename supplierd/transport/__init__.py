"""The daemon's sockets: the only place of the daemon that knows ZeroMQ.

    sockets   the context, and options that every socket gets
    lock      one daemon per socket file
    inbox     where publishers' frames arrive
    control   where workers and monitors talk
    link      one worker's own socket
    bells     sockets of packets, for the workers on this machine
    doorbells the same for publishers, of one packet each

A socket belongs to the thread that runs the loop. Each trap of libzmq that is met here is named where it is disarmed.
"""
