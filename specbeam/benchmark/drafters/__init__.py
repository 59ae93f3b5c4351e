"""Drafters and unions: how often a tree holds all that the target wants, and its cost."""
