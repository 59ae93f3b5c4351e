"""`python -m specbeam`: the same as the `specbeam` command."""

from specbeam.cli.main import main

main()
