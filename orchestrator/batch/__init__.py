"""Many learners at once: a batch is read or selected, planned, carried out, and reported."""
