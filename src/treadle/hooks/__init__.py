"""Plugins: code of others that looks on at executions, and adds to what diagrams can name.

A *hook* is a function that Treadle calls at a fixed point (`specs`). A *plugin* is a named, versioned set of
hooks: a subclass of `StateHook` (`sdk`), or a module with functions marked `@hookimpl`. A `PluginManager`
(`manager`) belongs to one engine and holds its plugins in the order of what they require.

The life of an execution's state has four phases, each with its hook:

| phase | what happens | hook |
|---|---|---|
| initialisation | the diagram is checked, the execution's row is about to be made | `pre_state_initialize` |
| execution | nodes go from state to state | `post_node_execute` |
| mutation | transactions on the shared context commit | `pre_state_mutation` |
| finalisation | the report is made, what is open is closed | `post_state_finalize` |

Plugins look on: a hook that raises is logged, counted and, at a limit, switched off.
"""
