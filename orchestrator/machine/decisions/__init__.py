"""What each row of the table does: pure functions from a run and an event to the next run.

Each returns a run whose ``state`` is one of the row's declared targets; the command follows from
the state alone. Nothing here reads a clock, draws a random number or calls anybody. The promises
are kept here, in this order: never two labs; never a lab displaced for nothing or without leave;
nothing lost; soon; with few calls.
"""
