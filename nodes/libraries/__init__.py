"""Access to third-party libraries that nodes use through their C interfaces or as optional extras."""
