"""Streaming of an audio file through a session: the job, the feeder, the session, and the driver of all three."""
