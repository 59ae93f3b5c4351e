"""First alpha of the target service contract."""
