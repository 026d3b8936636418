"""The public kit for testing diagrams, stores and the kernel itself."""
