"""Services: handlers of the pipeline RPCs, of health checks and of reflection."""
