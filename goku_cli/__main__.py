"""`python -m goku_cli` is `goku`."""

from goku_cli.cli.app import main

main()
