"""What is asked for of each letter."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, Field


class Kind(StrEnum):
    ORDER = "order"
    COMPLAINT = "complaint"
    OTHER = "other"


class Form(BaseModel):
    sender: str = Field(description="The name of who wrote the letter.")
    kind: Kind
    order_number: int | None = Field(None, description="Of an order that the letter is about, if it says so.")
    wants: str = Field(description="What we should do, in a few words; nothing if nothing is wanted.")
