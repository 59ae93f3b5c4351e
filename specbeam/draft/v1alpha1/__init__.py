"""First alpha of the draft service contract."""
