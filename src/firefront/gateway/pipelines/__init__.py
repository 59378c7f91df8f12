"""Pipelines over HTTP: bodies, objects, runs, and which version answers a request."""
