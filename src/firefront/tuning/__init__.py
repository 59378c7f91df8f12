"""Adapters made and judged: data, training, evaluation."""
