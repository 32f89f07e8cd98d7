"""Differentiable augmentation: D looks at changed images, real and generated ones alike.

Differentiable Augmentation for Data-Efficient GAN Training. Zhao, Liu, Lin, Zhu, Han, 2020,
https://arxiv.org/abs/2006.10738, section 3.3. A discriminator D learns some hundred images by heart
within minutes. With random changes T it judges D(T(x)) and D(T(G(z))) and never sees an image
twice. The generator G learns through T, so that it makes unchanged images: changing the real ones
alone would teach it the changes.

Keras's preprocessing layers of these names clip values, which leaves no gradient where they do,
interpolate between pixels, and some do not compile with XLA.

Shapes: B batch, H height, W width, C channels.
"""

import tensorflow as tf

NAMES = ("color", "translation", "cutout")


def diff_augment(x, policy, seed):
    """Changes each image at random, by a draw of its own.

    - "color": brightness by -0.5 to 0.5, saturation by a factor of 0 to 2, contrast by one of 0.5
      to 1.5. Values may leave [-1, 1]; clipped ones would have no gradient.
    - "translation": by up to 1/8 of each side, in whole pixels.
    - "cutout": a rectangle of half of each side goes. Its centre is anywhere, so that the border
      may cut it off, as in the authors' code.

    Pixels that move in or go are 0, as in the paper. Of images in [-1, 1] that is the middle grey,
    not black: D can see what was done, on real and generated images alike.

    Args:
        x: Images (B, H, W, C) in [-1, 1].
        policy: One or several of these names, separated by commas.
        seed: A pair of ints: same seed, same changes.

    Returns:
        The changed images, of the same shape and type.
    """
    names, (height, width) = policy.split(","), x.shape[1:3]
    # A column for each change, whichever are made; in float32, since means overflow in float16.
    u = tf.random.stateless_uniform((7, tf.shape(x)[0]), seed)  # in [0, 1)
    changed = tf.cast(x, "float32")
    if "color" in names:
        changed = recolor(changed, u[0] - 0.5, 2.0 * u[1], u[2] + 0.5)
    if "translation" in names:
        down, right = _farthest(height), _farthest(width)
        changed = translate(changed, _whole(u[3], -down, down), _whole(u[4], -right, right))
    if "cutout" in names:
        changed = cut_out(changed, _first(u[5], height), _first(u[6], width))
    return tf.cast(changed, x.dtype)


def check_policy(policy):
    """Returns the policy; raises ValueError if `diff_augment` does not know it. "" is none."""
    if policy and not {*policy.split(",")} <= {*NAMES}:
        raise ValueError(
            f'`augment` is "" for none, or one or several of {", ".join(NAMES)}, separated by '
            f"commas: augment={','.join(NAMES)!r}. Received: augment={policy!r}"
        )
    return policy


def recolor(x, brightness, saturation, contrast):
    """Adds brightness, moves pixels from or to their own grey, then from or to the image's mean.

    Args:
        x: Images (B, H, W, C).
        brightness: What is added (B,).
        saturation: Factors (B,) of distances from the pixel's mean over C; grey images stay.
        contrast: Factors (B,) of distances from the image's mean.
    """
    brightness, saturation, contrast = (
        value[:, None] for value in (brightness, saturation, contrast)
    )
    shape = x.shape[1:]
    channels, size = shape[-1], shape.num_elements()
    flat = tf.reshape(x, (-1, size))  # B HWC: tensors of two axes are broadcast twice as fast
    mean = tf.reduce_mean(flat, axis=1, keepdims=True)  # B 1
    # The mean over C as a product, which is faster too.
    grey = tf.reshape(x, (-1, channels)) @ tf.fill((channels, channels), 1.0 / channels)
    grey = tf.reshape(grey, (-1, size))  # B HWC
    # All three at once: brightness moves grey and mean along, saturation leaves both.
    x = saturation * flat + (1.0 - saturation) * grey
    x = contrast * x + (1.0 - contrast) * mean + brightness
    return tf.reshape(x, (-1, *shape))


def translate(x, down, right):
    """Moves images (B, H, W, C) by whole numbers of pixels, each (B,); 0 moves in."""
    height, width = x.shape[1:3]
    x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])  # the frame is all that is seen of outside
    rows = tf.clip_by_value(1 + tf.range(height) - down[:, None], 0, height + 1)  # B H
    columns = tf.clip_by_value(1 + tf.range(width) - right[:, None], 0, width + 1)  # B W
    return tf.gather(tf.gather(x, rows, batch_dims=1), columns, axis=2, batch_dims=1)


def cut_out(x, top, left):
    """Sets half of the rows and columns of images (B, H, W, C) to 0, from `top` and `left` (B,)."""
    height, width, channels = x.shape[1:]
    rows, columns = (
        (first[:, None] <= tf.range(side)) & (tf.range(side) < first[:, None] + _half(side))
        for first, side in ((top, height), (left, width))
    )
    columns = tf.repeat(columns, channels, axis=1)  # B WC
    gone = rows[:, :, None] & columns[:, None, :]  # B H WC
    return x * tf.reshape(tf.cast(~gone, x.dtype), (-1, height, width, channels))


def _farthest(side):
    """An eighth of a side, rounded as in the authors' code."""
    return int(side / 8 + 0.5)


def _half(side):
    return int(side / 2 + 0.5)


def _first(u, side):
    """The first row of a hole whose centre is anywhere from the first row to behind the last."""
    return _whole(u, 0, side - _half(side) % 2) - _half(side) // 2


def _whole(u, low, high):
    """Draws from [0, 1) to whole numbers from `low` to `high`, all as likely."""
    return low + tf.cast(u * (high - low + 1), "int32")
