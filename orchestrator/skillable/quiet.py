"""Keeps personal data out of other people's logs: httpx logs whole URLs, query included, at INFO.

The query of a launch has names and an email address in it. A filter on httpx's logger cuts every
query off; it stays for the life of the process and changes nothing else.
"""

from __future__ import annotations

import logging

import httpx


class _WithoutQuery(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                arg.copy_with(query=None) if isinstance(arg, httpx.URL) else arg
                for arg in record.args
            )
        return True


_FILTER = _WithoutQuery()


def keep_queries_out_of_httpx_logs() -> None:
    """Install the filter; more than once is harmless."""
    logging.getLogger("httpx").addFilter(_FILTER)
