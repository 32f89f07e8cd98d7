"""Layers that models share: those of Keras, faster or right where Keras is not; augmentation."""

from keras_genai.layers.attention import (
    CausalBlock,
    Positions,
    Sinusoids,
    SummedEmbedding,
    attend,
    attention_shares,
    merge_heads,
    split_heads,
)
from keras_genai.layers.augmentation import check_policy, diff_augment
from keras_genai.layers.convolution import Conv2D, Conv2DTranspose
from keras_genai.layers.lora import LoRADense
from keras_genai.layers.normalization import BatchNormalization
from keras_genai.layers.recurrent import GRU
from keras_genai.layers.regularization import Dropout
from keras_genai.layers.resampling import PooledConv2D, UpsampledConv2D
from keras_genai.layers.spectral import SpectralConv2D, SpectralDense, SpectralPooledConv2D

__all__ = [
    "GRU",
    "BatchNormalization",
    "CausalBlock",
    "Conv2D",
    "Conv2DTranspose",
    "Dropout",
    "LoRADense",
    "PooledConv2D",
    "Positions",
    "Sinusoids",
    "SpectralConv2D",
    "SpectralDense",
    "SpectralPooledConv2D",
    "SummedEmbedding",
    "UpsampledConv2D",
    "attend",
    "attention_shares",
    "check_policy",
    "diff_augment",
    "merge_heads",
    "split_heads",
]
