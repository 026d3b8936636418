"""The page of `run --serve`, in a process of its own."""
