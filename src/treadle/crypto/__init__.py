"""Secrets and encryption.

A *data key* seals what an execution holds; the *master key*, which never is in the store, wraps data keys. So
the master key is changed without touching what is sealed, and who destroys a data key has destroyed all that
it sealed. A *secret* is named where it is needed, as `secret://NAME`; it is looked up when it is used, and
never written down.
"""
