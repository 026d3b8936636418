"""People without providers: scripts, and recorded calls of models."""
