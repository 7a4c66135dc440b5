"""``relaunch config``: every setting, its value, and where the value came from."""

from __future__ import annotations

import json

from orchestrator.cli.connect import settings_for
from orchestrator.cli.options import ConfigOption, JsonOption
from orchestrator.cli.settings import environment_name, shown_values


def config(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Show each setting, its value and where it came from; secrets are masked."""
    rows = list(shown_values(settings_for(config)))
    if as_json:
        shown = {key: {"value": value, "source": source} for key, value, source in rows}
        print(json.dumps(shown))
        return 0
    width = max(len(key) for key, _, _ in rows)
    for key, value, source in rows:
        name = f"environment ({environment_name(key)})" if source == "environment" else source
        print(f"{key:<{width}}  {value or '(not set)'}  [{name}]")
    return 0
