"""Scores of models and adapters on rows, compared in pairs, and the gate between them."""
