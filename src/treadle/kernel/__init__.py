"""The kernel: what an execution does next, decided without a clock, a disk, a loop or luck.

The words: the kernel is told a *fact* ("finished"), answers with a *step* (a delta of cells, and commands),
and a *command* says what it wants done ("perform"). `Kernel.handle` is the only way to change an execution;
`Kernel.resume` brings one back from its cells. A *frame* is a diagram in the act of running, a *slot* a node
in a frame, a *turn* one iteration of a loop, a *round* an opening of a composite, within which retries are
counted.
"""

from treadle.kernel.execution import Kernel
from treadle.kernel.order import DynamicOrderCalculator

__all__ = ["DynamicOrderCalculator", "Kernel"]
