"""Checks of what this folder ships, without a cluster: `make k8s-check`, or `python -m k8s.checks`.

`shipped` renders the overlays; each module of `rules` looks at one side of the result and says what is wrong;
`faults` plants mistakes, each of which a rule must find. What only a real API server can tell is not claimed here.
"""
