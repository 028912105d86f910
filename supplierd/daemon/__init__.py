"""The daemon: sockets around the core.

serve         start, loop, stop
distribution  the loop's work: frames in, frames out, time
dialogue      what workers and monitors say, and what they are told
sessions      which link and which peer belong to which worker
exporter      the process of the Prometheus endpoint, which is metrics_server
"""
