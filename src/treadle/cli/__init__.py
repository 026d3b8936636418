"""The command `treadle`. `main` is the door; each other module holds commands that belong together,
or what they share.

Nothing heavy is imported before a command needs it: `treadle --version` imports neither typer nor the engine.
"""
