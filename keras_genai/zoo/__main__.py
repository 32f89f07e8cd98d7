"""`python -m keras_genai.zoo` writes `index.json` anew from the registry."""

import json

from keras_genai._files import write_text
from keras_genai.zoo import registry

if __name__ == "__main__":
    write_text(registry.INDEX, json.dumps(registry.index(), indent=1) + "\n")
