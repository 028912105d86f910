"""The daemon: sockets around the core.

serve         start, loop, stop
distribution  the loop's work: frames in, frames out, time
express       the wait between two turns; compiled (with known), the usual frame meanwhile
parcels       frames in shared memory: their leases, their bytes for who cannot read them
dialogue      what workers and monitors say, and what they are told
sessions      which link and which peer belong to which worker
guard, doors  who may do what; listening while descriptors last
reload        SIGHUP: other keys and grants
changes       what the log tells of workers and streams
notify        systemd: ready, alive, stopping
exporter      the process of the Prometheus endpoint, which is metrics_server (paced by pace, over TLS by https)
"""
