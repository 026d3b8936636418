"""Draw diagrams in Python: inside a `with Diagram(...)` block, calling a node draws it and its arrows.

    @node
    def find(folder: str) -> list[str]: ...

    @node(retries=2, timeout=30)
    async def measure(path: str, unit: str = "lines") -> int: ...

    @node
    def report(sizes: list[int], title: str) -> str: ...

    with Diagram("sizes") as diagram:
        files = find(diagram.input("folder", str, "."))
        sizes = measure.map(files, concurrency=16)          # one item a file; the result is a list
        many = when("sizes | length > 100", sizes=sizes)
        with many.true:                                     # drawn here: runs only when it is true
            text = report(sizes, title="Many")
        with many.false:
            short = report(sizes, title="Few")
        diagram.result(text | short)                        # whichever there is

    treadle.run(diagram, folder="src")

A call takes *outputs* (an arrow to the parameter's input), inputs of the diagram, and plain values
(constants). A signature is a contract: an unknown or missing argument, or an output of another type than the
parameter's, is an InvalidDiagram with the line of the call. Outside a `with Diagram` block a node is its
function, for tests and reuse.

    with loop(draft=first, max_iterations=5) as turn:
        text = improve(turn.draft)                          # the loop's head: it begins every iteration
        good = when("text | length < 80", text=text)
        with good.false:
            turn.again(draft=text)                          # another iteration, with this draft
    publish(text)                                           # the last iteration's text

    ann = person("Ann", "openai:gpt-5-mini", system_prompt="You are a poet.")
    line = ann("A line about {{ topic }}.", topic=topic)    # asks her; a text, or with `output=` an object
    with ann.decides("Is it good? {{ line }}", line=line).true:
        ...

Other types of nodes are drawn by `diagram.add("ask", "user_response", prompt="…")`.
"""

from treadle.diagram.builder.drawing import Diagram, NodeFunction, loop, node, switch, when
from treadle.diagram.builder.handles import Choice, Either, Given, Output, Turn
from treadle.diagram.builder.people import Someone, person

__all__ = [
    "Choice",
    "Diagram",
    "Either",
    "Given",
    "NodeFunction",
    "Output",
    "Someone",
    "Turn",
    "loop",
    "node",
    "person",
    "switch",
    "when",
]
