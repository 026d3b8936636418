"""The answers over HTTP, by subject. Each module gives its operations to `OPERATIONS` (see `routing`)."""
