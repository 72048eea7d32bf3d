"""The engine: sessions that run a DAG of nodes over chunks of audio and data. It knows no wire and no node class."""
