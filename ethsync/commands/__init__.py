"""What the command line's commands do. Each module is imported only when its command runs: `--help` stays quick."""
