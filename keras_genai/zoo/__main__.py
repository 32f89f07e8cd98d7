"""`python -m keras_genai.zoo` writes anew what is generated from recipes and published entries."""

from keras_genai.zoo import generated

if __name__ == "__main__":
    generated.write()
