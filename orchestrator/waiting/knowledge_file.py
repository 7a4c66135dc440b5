"""Knowledge in a small file of its own: read once, written whole, never in anybody's way.

A file that can't be read is put aside and knowledge begins afresh; one that can't be written is
warned about. Two processes that write at the same moment don't damage it, but the later one wins:
what the other has learned since it read the file is forgotten.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from orchestrator.logs import get_logger
from orchestrator.waiting.knowledge import Knowledge

_log = get_logger("orchestrator.knowledge")


class KnowledgeFile:
    """A file with what is known; it and its folder need not exist yet."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def load(self, *, cost_per_look: float = 2.0, deadline: float = 900.0) -> Knowledge:
        """What the file knows; nothing if there is none or it can't be read."""
        nothing = Knowledge(cost_per_look, deadline)
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return nothing
        except (OSError, UnicodeDecodeError) as error:
            _log.warning("knowledge_unreadable", reason=type(error).__name__)
            return nothing
        try:
            return Knowledge.from_json(text, cost_per_look=cost_per_look, deadline=deadline)
        except ValueError as error:
            _log.warning("knowledge_unreadable", reason=type(error).__name__)
            with contextlib.suppress(OSError):
                self.path.replace(self.path.with_suffix(".unreadable"))
            return nothing

    def save(self, knowledge: Knowledge) -> bool:
        """Write what is known, all or nothing. Says whether it could."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name)
        except OSError as error:
            _log.warning("knowledge_not_saved", reason=type(error).__name__)
            return False
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(knowledge.to_json())
            Path(name).replace(self.path)
        except OSError as error:
            _log.warning("knowledge_not_saved", reason=type(error).__name__)
            with contextlib.suppress(OSError):
                Path(name).unlink()
            return False
        return True
