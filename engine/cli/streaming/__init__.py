"""Streaming an audio file through a session: the job, the feeder, the session, and what drives them."""
