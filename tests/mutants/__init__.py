"""Breaks the product one expression at a time and looks whether a test notices: `make mutants`.

Why not a tool from the shelf: mutmut and cosmic-ray run one command, the whole suite or a fixed part of it, for each
mutant; here a mutant meets the tests that run its line, quickest first, in a fork of a process that has imported what
they need. So 200 mutants take minutes, those that need a real nats-server among them.
"""
