"""The public API: generated messages and stubs."""
