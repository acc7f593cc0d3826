"""What the simulators of all providers share: a real HTTP server, people, faults, a journal, control endpoints."""
