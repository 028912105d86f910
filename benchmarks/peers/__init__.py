"""The systems that a user would pick instead, and supplierd's own lanes: one small adapter each, the same work for all.

system.py says what an adapter is, parts.py has the loops of publisher and workers, cell.py measures one system on one
work, report.py and plots.py say it in Markdown and pictures. What is compared is in works.py.
"""
