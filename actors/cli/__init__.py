"""The command line, ``actor-runner``."""
