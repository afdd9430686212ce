"""Run ethsync from a checkout: `python cli.py snap --network demo` is `ethsync snap --network demo`."""

from ethsync.cli import main

if __name__ == "__main__":
    main()
