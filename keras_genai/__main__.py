"""`python -m keras_genai` is the command `keras-genai`."""

import sys

from keras_genai.cli import main

if __name__ == "__main__":
    sys.exit(main())
