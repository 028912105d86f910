"""`supplierd top`: the daemon live in a terminal, from at most one snapshot a second.

model     what the snapshots say over time: rates, rows, sparklines; pure
layout    columns and figures as text of a given width; pure
detail    one worker with its ledger, and the help; pure
screen    what is shown, and what each key does; pure
terminal  raw keys in, changed lines out
app       asks the daemon, and brings the above together
"""
