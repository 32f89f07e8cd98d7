"""A small graph with the form of the Inception network of 2015, whose own is a download."""

import numpy as np
import tensorflow as tf


def small_inception(depth=6, classes=5):
    """A graph with the form and the names of the original: made for one image, of old operations.

    Its features are the channels' means behind the resize and a batch normalisation of a kind that
    TensorFlow 2 no longer has.
    """
    graph = tf.Graph()
    rng = np.random.default_rng(0)
    constant = tf.constant
    with graph.as_default():
        jpeg = tf.compat.v1.placeholder("uint8", (20, 20, 3), "DecodeJpeg")
        x = tf.expand_dims(tf.cast(jpeg, "float32"), constant(0), name="ExpandDims")
        x = tf.compat.v1.image.resize_bilinear(x, constant([299, 299]), name="ResizeBilinear")
        x = tf.multiply(x - 128.0, constant(1 / 128.0), name="Mul")
        filters = constant(rng.normal(size=(1, 1, 3, depth)).astype("float32"))
        x = tf.nn.conv2d(x, filters, 1, "SAME", name="conv")
        x = tf.nn.avg_pool2d(x, 299, 1, "VALID", name="pool_3")  # 1 1 1 depth
        x = tf.reshape(x, constant([1, depth]), name="pool_3/_reshape")
        weights = constant(rng.normal(size=(depth, classes)).astype("float32"))
        x = tf.add(tf.matmul(x, weights, name="softmax/logits/MatMul"), 100.0 * np.eye(1, classes))
        tf.nn.softmax(x, name="softmax")
    definition = graph.as_graph_def(add_shapes=True)
    _use_old_normalisation(definition, depth)
    return definition.SerializeToString()


def _use_old_normalisation(definition, depth):
    """Puts `BatchNormWithGlobalNormalization`, removed in version 9 of graphs, before the pool."""
    definition.versions.producer = 8
    for name, value in (("m", 0.5), ("v", 4.0), ("beta", 1.0), ("gamma", 2.0)):
        node = definition.node.add(name=name, op="Const")
        node.attr["dtype"].type = 1
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.full(depth, value, "float32")))
    node = definition.node.add(name="norm", op="BatchNormWithGlobalNormalization")
    node.input.extend(["conv", "m", "v", "beta", "gamma"])
    node.attr["T"].type = 1
    node.attr["variance_epsilon"].f = 0.0
    node.attr["scale_after_normalization"].b = True
    pool = next(node for node in definition.node if node.name == "pool_3")
    pool.input[0] = "norm"
