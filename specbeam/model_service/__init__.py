"""What the draft and the target service have in common: a model of a bundle, served in sessions.

Needs torch; the orchestrator and the clients never import it.
"""
