"""The three job types that are served by default, and examples of how to write one's own.

A command job is any program that

- reads its payload, one JSON object, from stdin (`payload.py`) and trusts nothing in it;
- prints what it found to stdout: `carbon-orchestrator logs` shows it, while the job runs and after;
- may say how far it is (`progress.py`);
- exits with 0 when it is done, with anything else when it failed.

`analytics` and `inference` are no more than that. `training` shows what a long job adds: it
writes checkpoints into $CARBON_CHECKPOINT_DIR, stops soon after SIGTERM, and goes on later
exactly where it stopped, so that it may be suspended while the grid is dirty.

Each runs by hand too: `echo '{"rows": 10000}' | python -m carbon_orchestrator.examples.analytics`.
Only the standard library is imported, so that a job starts in some tens of milliseconds.
"""
