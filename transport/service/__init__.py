"""The services: handlers of the pipeline RPCs, health and reflection."""
