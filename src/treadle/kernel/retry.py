"""Whether an attempt is followed by another, and when: a decision, not a loop."""

from __future__ import annotations

from treadle.diagram.policy import LATEST, Backoff, Policy


def retry_at(policy: Policy, tries: int, kind: str, retryable: bool, at: float, luck: float,
             delay: float | None = None) -> float | None:
    """The instant of the next attempt, or None if there is none.

    `tries` counts the attempts of this round, the failed one included; `kind` is the error's type name,
    `luck` a number in [0, 1); `delay` seconds, if the body asked for them, replace the back-off.
    """
    if tries > policy.retries or not retryable:
        return None
    if policy.retry_on and kind not in policy.retry_on:
        return None
    wait = pause(policy.backoff, tries, luck) if delay is None else max(0.0, delay)
    return min(at + wait, LATEST)


def pause(backoff: Backoff, tries: int, luck: float) -> float:
    """Seconds to wait after the `tries`-th failure: exponential, capped, spread by ± jitter of itself."""
    try:
        seconds = min(backoff.max, backoff.initial * backoff.factor ** (tries - 1))
    except OverflowError:
        seconds = backoff.max
    return max(0.0, seconds * (1.0 + backoff.jitter * (2.0 * luck - 1.0)))
