"""One file a model. `base.py` holds what they share: plumbing, never maths."""

# First: a model file imports the registry, hence the zoo, which imports all model files. Starting
# with the model file, that would come back to it while it is half done.
from keras_genai import zoo  # noqa: F401
