"""Secrets and encryption.

A *data key* seals what an execution holds; the *master key*, which never is in the store, wraps data keys. So
the master key is changed without touching what is sealed, and who destroys a data key has destroyed all that
it sealed. A *secret* is named where it is needed, as `secret://NAME`; it is looked up when it is used, and
never written down.
"""

import os

hidden: dict[str, str] = {}
"""Variables that gave a key, and were taken out of the environment: nobody whom we start must have them."""


def hide(name: str) -> None:
    """Take a variable with a key out of this process's environment; `read_key` finds it all the same."""
    value = os.environ.pop(name, None)
    if value is not None:
        hidden[name] = value
