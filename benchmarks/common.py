"""What several benchmarks do: run a script in a fresh process, and the endless batches of a source.

Nothing is imported at the top that sets up TensorFlow: a benchmark does that when it must.
"""

import os
import subprocess
import sys


def lines_of(script, *arguments, **environment):
    """Runs a script in a fresh process and returns the lines it printed."""
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return done.stdout.splitlines()


def batches_of(source, batch_size, steps=10**6):
    """The first batches of a source, through the package's pipeline."""
    import tensorflow as tf

    from keras_genai.data import pipeline

    position, end = tf.Variable(0, dtype="int64"), tf.Variable(steps, dtype="int64")
    return pipeline.train_batches(source, batch_size, seed=0, position=position, end=end)
