"""Find everything that is wrong with a diagram at once, and make what compiling needs.

    checked = check(load("report.yaml"), registry)
    checked.faults               # errors and warnings, each with its file and line
    checked.raise_if_invalid()   # InvalidDiagram that lists every error

A fault says what, where, and what to do. Sub-diagrams are read and checked too; their faults point into
their files. How arrows, branches and loops fit together is in `routes`.
"""

from treadle.diagram.check.checker import ITEM_NAMES, NAMES, SHARED_NAMES, Checked, check, check_file

__all__ = ["ITEM_NAMES", "NAMES", "SHARED_NAMES", "Checked", "check", "check_file"]
