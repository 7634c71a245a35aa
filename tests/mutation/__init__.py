"""Mutation testing: does a test fail when a line that decides is wrong? `python -m tests.mutation [MODULE…]`.

No library does this here as it is needed. mutmut skips decorated functions, and much of what decides is a property; it
also numbers its mutants, so that a list of known survivors goes stale with the next change. cosmic-ray starts a new
Python for each mutant, which takes hours where a fork takes minutes.
"""
