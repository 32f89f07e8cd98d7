"""Autoencoders: one file each."""
