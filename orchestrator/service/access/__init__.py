"""Who calls, and what that caller may do: service keys and learner tokens."""
