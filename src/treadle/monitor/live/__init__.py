"""Watching an execution: viewers get a snapshot, then the fields that have changed, a few times a second.

`fields` says what of a cell a viewer sees; a `Mirror` knows which field changed when; `sources` fill it, from
the store or from the engine in this process; `channel` brings what has changed to those who watch; `listing`
does the same for the list of executions; `socket` is the door.

What a viewer has not read is not kept for it: the mirror knows the newest state and the revision of each
field, so a slow viewer just asks later, and gets one message.
"""
