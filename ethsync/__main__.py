"""`python -m ethsync`."""

from ethsync.cli import main

main()
