"""The torch backend: a plan run with autograd, for training.

Imported by the trainer alone: serving on a CPU never loads torch.
"""
