"""Encryption between the journal and a store: what executions hold is sealed before it is written, and opened
when it is read. Ids, names, diagrams, statuses, ports and times stay readable; see docs/secrets.md.
"""
