"""Parts that all commands share; light modules, so that `--help` is quick."""
