"""The draft service: generated messages and stubs."""
