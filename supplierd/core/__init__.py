"""The supplier without its surroundings: no sockets, threads, logging or clock; `now` is an argument.

service    classes of workers and what they are promised
ledger     the counts of one mailbox, and of one stream's inbox
mailbox    one overwrite slot per (worker, stream)
stream     epochs, sequence numbers, the newest frame
worker     a worker's session and its literal state table
supplier   what happens on a frame, a demand, a join, a departure and a tick
snapshot   one immutable picture of everything, for metrics, people and tests
health     what in a snapshot breaks a promise
histogram  plain counts in fixed buckets
access     who may do what, by key
bucket     how often something may happen
"""
