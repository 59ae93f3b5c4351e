"""The orchestrator: joins the target and the draft service and answers clients.

Symbols used in every docstring of the package: K items wanted, W beams kept, W' beams alive,
L tokens per item.
"""
