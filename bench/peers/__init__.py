"""The bench against other engines: `python -m bench.peers`. How to read it: docs/bench.md."""
