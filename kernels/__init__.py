"""Fused operations of the scoring engine, each beside its plain torch reference.

Hugging Face ships a distribution that is imported by the same name, and transformers asks this module for
its version: "0" tells it that the distribution is absent.
"""

__version__ = "0"
