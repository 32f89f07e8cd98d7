"""Callbacks: what happens around training, never in it."""

from keras_genai.callbacks.measure import Measure, QualityGate
from keras_genai.callbacks.run_folder import RunFolder
from keras_genai.callbacks.samples import ImageSamples, TextSamples

__all__ = ["ImageSamples", "Measure", "QualityGate", "RunFolder", "TextSamples"]
