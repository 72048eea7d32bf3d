"""Signal processing without nodes: arrays and numbers in, arrays and numbers out."""
