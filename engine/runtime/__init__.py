"""Shared by all sessions of a process: the engine's settings, the sweep, threads, and the watchdog."""
