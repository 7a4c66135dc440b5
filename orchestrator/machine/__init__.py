"""The state machine: pure, sans-I/O. Read ``table.py`` first."""
