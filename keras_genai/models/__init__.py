"""One file a model. `base.py` holds what they share: plumbing, never maths."""
