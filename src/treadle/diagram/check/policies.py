"""What is wrong with what a node says beside its own type's properties."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from treadle.diagram.node import Node
from treadle.diagram.policy import Backoff, OnItemError, Policy

_PLAIN = Policy()
PATIENCE = Policy(retries=3, backoff=Backoff(initial=1.0, factor=2.0, max=30.0, jitter=0.2),
                  retry_on=("ModelError", "ToolServerError", "SecretError", "NodeTimeout"))
"""How often a person is asked again that could not be asked, if the node doesn't say. What is wrong with the
node itself (an image that isn't there) would be as wrong the next time."""


class Wrong(NamedTuple):
    """A fault of a policy, and at which of its keys it is."""

    message: str
    at: str
    warning: bool = False


def policy_faults(policy: Policy) -> Iterator[Wrong]:
    """What can't be, and what means nothing."""
    backoff = policy.backoff
    for key, value, least in (
            ("retries", policy.retries, 0), ("concurrency", policy.concurrency, 1),
            ("backoff.initial", backoff.initial, 0), ("backoff.factor", backoff.factor, 1),
            ("backoff.max", backoff.max, 0), ("backoff.jitter", backoff.jitter, 0)):
        if value is not None and not (value >= least and math.isfinite(value)):
            yield Wrong(f"{key} must be at least {least}, not {value}", key)
    if backoff.initial > backoff.max:
        yield Wrong(f"backoff.initial of {backoff.initial:g} s is cut to backoff.max, {backoff.max:g} s: "
                    "say a larger max", "backoff.initial", True)
    if backoff.jitter > 1:
        yield Wrong(f"backoff.jitter must be at most 1, not {backoff.jitter}", "backoff.jitter")
    if policy.timeout is not None and not (policy.timeout > 0 and math.isfinite(policy.timeout)):
        yield Wrong(f"timeout must be more than 0 seconds, not {policy.timeout}", "timeout")
    if policy.cache is not True and policy.cache is not False and not (
            policy.cache > 0 and math.isfinite(policy.cache)):
        yield Wrong(f"cache must be true, or more than 0 seconds, not {policy.cache}", "cache")
    if policy.for_each is None:
        for key, said in (("concurrency", policy.concurrency is not None),
                          ("on_item_error", policy.on_item_error is not OnItemError.FAIL),
                          ("reduce", policy.reduce is not None)):
            if said:
                yield Wrong(f"{key} means nothing without for_each", key, True)
    if policy.reduce is None and policy.initial is not None:
        yield Wrong("initial means nothing without reduce", "initial", True)


def patient(node: Node) -> Policy:
    """The policy of a node that asks a person: with `PATIENCE` where it says no retries."""
    policy, said = node.policy, node.places
    changes: dict[str, Any] = {}
    if policy.retries == 0 and "retries" not in said:
        changes["retries"] = PATIENCE.retries
        if not policy.retry_on:
            changes["retry_on"] = PATIENCE.retry_on
    if policy.backoff == _PLAIN.backoff and "backoff" not in said:
        changes["backoff"] = PATIENCE.backoff
    return msgspec.structs.replace(policy, **changes)
