"""A real process killed by SIGKILL at every named point of a relaunch, and what comes of it."""
