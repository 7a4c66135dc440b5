"""The schemas of the databases, as steps that only go forwards: ``ENGINE_NNNN.sql``.

A step never changes once it is released. Its first line says ``-- readable_by: N``: the oldest
schema whose program may still use a database after this step. What decides which steps to apply is
:mod:`orchestrator.durable.migrating`.
"""
