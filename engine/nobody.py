"""Who is told when all is over.

What has ended puts `nobody` in the place of those who listened to it. They mostly have what they listen to, which is a
cycle: parted so, both are freed at once, not when the collector comes by.
"""

__all__ = ["nobody"]


def nobody(*told: object) -> None:
    """Takes whatever is told."""
