"""The `specbeam` command."""
