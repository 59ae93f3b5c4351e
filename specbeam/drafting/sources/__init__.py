"""Drafters, one file each; see `specbeam.drafting.registry`."""
