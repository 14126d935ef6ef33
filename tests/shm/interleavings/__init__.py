"""A model checker for the primitives of `shm`: every interleaving, two memory models, a kill at every step.

`source` turns the primitives' own source into coroutines that hand out each access to shared memory, `operations`
keeps what they do as trees, `tso` and `weak` say what a load may return, `search` walks all schedules, `scenarios`
says who does what and what must never happen, `mutants` breaks the source in ways that must be noticed.
"""
