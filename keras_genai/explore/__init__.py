"""Looking inside models: what latents mean, what networks see, what comes next in a text.

    from keras_genai import explore

    images, labels = explore.held_out("vae.mnist", "mnist", 500)
    explore.latent_map("vae.mnist", images, labels, path="map.png")

Every function takes a model, or what `zoo.load` takes: a run folder, a file, the name of a
published entry. It returns a matplotlib `Figure`, and with `path=` writes it as well.

What a function needs of a model is what it calls. Any model has the latent functions that makes
images of vectors: by `draw(z)`, of standard normal noise, or by `decode(z)` of what its
`encode(images)` returns. Some need that encoder. What a network sees is asked of any network whose
input is an image.

Of a text model's blocks of attention `attention` asks the shares that they give (`Block.shares` of
`gpt.py`), and `next_tokens` of any model what `generate` does: `step` and `initial_states`.
"""

from keras_genai.explore.encoded import active_units, latent_map, reconstructions
from keras_genai.explore.networks import feature_maps, saliency
from keras_genai.explore.space import LatentSpace, along_arc, along_line, held_out
from keras_genai.explore.texts import attention, next_tokens
from keras_genai.explore.walks import arithmetic, between_classes, interpolate, traverse

__all__ = [
    "LatentSpace",
    "active_units",
    "along_arc",
    "along_line",
    "arithmetic",
    "attention",
    "between_classes",
    "feature_maps",
    "held_out",
    "interpolate",
    "latent_map",
    "next_tokens",
    "reconstructions",
    "saliency",
    "traverse",
]
