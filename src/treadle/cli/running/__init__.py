"""Running executions, going on with recorded ones, and words to those that run elsewhere."""
