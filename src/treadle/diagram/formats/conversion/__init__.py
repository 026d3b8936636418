"""Diagrams from one form into another: ours, the light dialect, and that dialect's native form.

    forms      a file's text in another form
    native     the native form: maps of nodes, handles, arrows and persons, read as the light dialect is
    readable   ours, as people would write it
    light      ours as the light dialect, with the name of everything that it can't say
    kinds      what a node of each of our types is called there
    naming     the names in its texts
    inverse    our templates and expressions as those of the dialect
"""
