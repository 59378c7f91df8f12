"""A tuning job: what it is asked to do, and the process that does it, step by step."""
