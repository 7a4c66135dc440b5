"""``python -m orchestrator.cli`` is ``relaunch``."""

from orchestrator.cli import main

if __name__ == "__main__":
    main()
