"""Drafters that need no device, and the union of all drafters' candidates under one row budget.

Pure numpy: the orchestrator runs it.  A drafter is one file in `sources/`; see `registry`.
"""
