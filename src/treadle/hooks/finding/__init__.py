"""Finding plugins: where they are, what is wrong with them, in which order they stand."""
