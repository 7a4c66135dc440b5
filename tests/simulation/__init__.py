"""Relaunches of many learners, several processes, one store, one platform: in virtual time.

Everything that happens follows from a seed: which process crashes when, which is frozen and comes
back, when the database is slow, loses an answer or is away, what the platform does wrong, and who
asks for what. The sandbox's ledger is the judge. ``python -m tests.simulation --help``.
"""
