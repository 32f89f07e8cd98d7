"""What image size costs `dcgan`: a step, reading its batch from a folder, a checkpoint.

python benchmarks/sizes.py
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import step_time
from common import batches_of
from PIL import Image

from keras_genai import data, zoo

BATCH = 128


def milliseconds(function, times):
    """Median wall time of a call, after one that does not count."""
    function()
    results = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        results.append(1000 * (time.perf_counter() - start))
    return float(np.median(results))


def write_pictures(folder, side, n=512):
    """JPEG files of smooth noise, about as hard to decode as photos."""
    rng = np.random.default_rng(0)
    for i in range(n):
        small = Image.fromarray(rng.integers(0, 256, (side // 4, side // 4, 3), "uint8"))
        small.resize((side, side), Image.BICUBIC).save(folder / f"{i:04d}.jpg", quality=90)


def main():
    """Prints a table."""
    print("| side | parameters | step, ms | reading a batch, ms | checkpoint, MB | writing it, s |")
    print("|---|---|---|---|---|---|")
    for side in (28, 64, 128):
        with tempfile.TemporaryDirectory() as folder:
            pictures = Path(folder) / "pictures"
            pictures.mkdir()
            write_pictures(pictures, side)
            parts = data.load(pictures, image_shape=(side, side, 3))
            model = zoo.get("dcgan", seed=0, data=parts)
            batches = iter(batches_of(parts.train, BATCH))
            reading = milliseconds(lambda batches=batches: next(batches), 12)
            images = np.random.default_rng(0).integers(0, 256, (BATCH, side, side, 3), "uint8")
            step = np.median(
                step_time.time_steps(model, batches_of(data.load(images).train, BATCH))
            )
            file = Path(folder) / "model.keras"
            writing = milliseconds(lambda model=model, file=file: model.save(file), 3) / 1000
            size = file.stat().st_size / 1e6
        print(
            f"| {side} | {model.count_params():,} | {step:.0f} | {reading:.0f} | {size:.0f} "
            f"| {writing:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
