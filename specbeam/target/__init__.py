"""The target service: generated messages and stubs."""
