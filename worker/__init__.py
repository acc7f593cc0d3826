"""The worker: commands in, follower pages out.

`core` decides: command → pages → events, resumable, with no network and no clock of its own.
`providers` speaks HTTP to eTelecom and eSMS; `jetstream` speaks to NATS: the log, status, dead letters, settling.
`app` puts them together under FastStream's subscribers; `ops` answers probes and metrics; `page` is the live page,
and `page_backend` what it sees and does; `settings` reads the configuration. `simulators` is what each provider's
simulator is made of, and `embedded` stands in for the server, for the demo and the tests. `cli` is the console script
`followers`.

Imports run one way: cli → app → page_backend → {jetstream, providers, settings, page, ops, embedded} → core → schemas.
Behind a completed job `core/changes/feeds.py` publishes what differs from the last complete list.
The log is the checkpoint: a job's last page event is all that a successor needs (`core/jobs/run.py`).
"""

__version__ = "0.1.0"
