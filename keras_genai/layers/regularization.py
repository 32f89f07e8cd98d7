"""Dropout with another mask on each replica."""

import keras
import tensorflow as tf

from keras_genai.distribution import fold_in_replica


@keras.saving.register_keras_serializable("keras_genai")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout`, whose replicas would all drop the same units of different items.

    Arguments, variables and, with one replica, results are those of the Keras layer.
    """

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        seed = fold_in_replica(tf.cast(self.seed_generator.next(), "int32"))
        return tf.nn.experimental.stateless_dropout(
            inputs, self.rate, seed, noise_shape=self.noise_shape
        )
