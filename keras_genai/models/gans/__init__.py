"""Adversarial models: one file each."""
