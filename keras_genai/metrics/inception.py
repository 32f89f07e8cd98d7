"""The Inception network of the FID, KID and IS papers, as the frozen graph of 5 December 2015.

Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2015,
https://arxiv.org/abs/1512.00567. Its layer `pool_3` gives the 2048 features of the Fréchet
Inception Distance (Heusel et al., 2017, https://arxiv.org/abs/1706.08500) and of the Kernel
Inception Distance; the Inception Score (Salimans et al., 2016, https://arxiv.org/abs/1606.03498)
takes its 1008 class probabilities, by habit without the bias of the last layer. Other trainings of
the architecture, Keras's own included, give other numbers.

The graph (95,673,916 bytes) was published by TensorFlow within inception-2015-12-05.tgz. It is
downloaded once from the copy that the evaluation code of guided-diffusion uses, and is nothing but
operations and constants.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

URL = (
    "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/"
    "classify_image_graph_def.pb"
)
SHA256 = "009d6814d1bc560d4e7b236e170e9b2d5ca6f4b57bd8037f6db05776204415c6"


def load() -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The network: images float32 (B, 299, 299, 3) in 0..255 to features and probabilities.

    Raises:
        ValueError: If the graph is not in the cache and cannot be downloaded.
        OSError: If the cache cannot be written.
    """
    from keras_genai import _download  # here, since it is slow to import

    path = _download.fetch(URL, SHA256, "inception-2015-12-05.pb")
    return from_graph(path.read_bytes())


def from_graph(serialized: bytes) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """A function of images (B, H, W, 3) from a frozen graph with the names of the original.

    Its operations of 2015 cannot be part of a `tf.function`: they run in a session.
    """
    definition = tf.compat.v1.GraphDef.FromString(serialized)
    for node in definition.node:
        node.attr.pop("_output_shapes", None)  # made for batches of one image
    graph = tf.Graph()
    with graph.as_default():
        image = tf.compat.v1.placeholder("float32", (None, None, None, 3))
        pool, logits = tf.import_graph_def(
            definition,
            input_map={"ExpandDims:0": image},
            return_elements=["pool_3:0", "softmax/logits/MatMul"],
            name="",
        )
        features = tf.squeeze(pool, [1, 2])  # B 2048
        probabilities = tf.nn.softmax(features @ logits.inputs[1])  # B 1008
    session = tf.compat.v1.Session(graph=graph)
    return lambda x: session.run([features, probabilities], {image: x})
