"""State that all sessions of a process share: the engine's settings, the sweep, the threads and the watchdog."""
