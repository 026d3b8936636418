"""People in diagrams: who they are (`Person`), and what they remember (`Memory`)."""

from treadle.diagram.person.definition import Defined, Person, Settings, named
from treadle.diagram.person.memory import Memory, read_memory

__all__ = ["Defined", "Memory", "Person", "Settings", "named", "read_memory"]
