"""The engine: facts go in, steps are journalled, published and obeyed, in this order.

`engine` opens and closes everything, `handle` is one execution to its user, `runner` the execution at work,
`actor` the tasks that bodies run in, `resolver` and `scope` what a body gets, `values` how it travels,
`composite` maps and sub-diagrams, `inbox` what comes from outside, `recover` how an execution comes back;
`bus`, `services`, `tracker` and `context` are for whoever looks on or drives nodes by hand.
"""
