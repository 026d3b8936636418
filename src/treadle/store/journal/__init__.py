"""The way to the disk: what the event loop records, one thread writes."""
