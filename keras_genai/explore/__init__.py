"""Looking inside models of images: what their latents mean, what their networks see.

    from keras_genai import explore

    images, labels = explore.held_out("vae.mnist", "mnist", 500)
    explore.latent_map("vae.mnist", images, labels, path="map.png")

Every function takes a model, or what `zoo.load` takes: a run folder, a file, the name of a
published entry. It returns a matplotlib `Figure`, and with `path=` writes it as well.

What a function needs of a model is what it calls. Any model has the latent functions that makes
images of vectors: by `draw(z)`, of standard normal noise, or by `decode(z)` of what its
`encode(images)` returns. Some need that encoder. What a network sees is asked of any network whose
input is an image.
"""

from keras_genai.explore.encoded import active_units, latent_map, reconstructions
from keras_genai.explore.networks import feature_maps, saliency
from keras_genai.explore.space import LatentSpace, along_arc, along_line, held_out
from keras_genai.explore.walks import arithmetic, between_classes, interpolate, traverse

__all__ = [
    "LatentSpace",
    "active_units",
    "along_arc",
    "along_line",
    "arithmetic",
    "between_classes",
    "feature_maps",
    "held_out",
    "interpolate",
    "latent_map",
    "reconstructions",
    "saliency",
    "traverse",
]
