"""Real workers, a real nats-server and a faulty provider, with everything killed again and again.

`python -m tests.chaos --seconds 150 --seed 1` (or `make chaos`) runs it; README.md says what it checks and found.
"""
