"""Times a training step on one and two devices, and on one and two workers, on this machine.

The global batch is the same throughout. Devices are logical CPUs and workers are processes on
loopback, so all share the same cores: what is measured is what distribution costs, not what it
gains. On machines of their own, divide the work by their number and keep the cost.

    python benchmarks/scaling.py
    python benchmarks/scaling.py vae --batch_size 256
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time

WARM_UP, STEPS = 3, 20


def measure(kind, name, batch_size):
    """Milliseconds of each step, by the wall clock, as this process sees them."""
    import keras
    import numpy as np
    import tensorflow as tf

    from keras_genai import distribution, zoo

    if kind == "2 devices":
        cpu = tf.config.list_physical_devices("CPU")[0]
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    else:
        strategy = distribution.connect()

    times = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            times.append(time.perf_counter())

    with strategy.scope():
        model = zoo.get(name, seed=0)
    rng = np.random.default_rng(0)
    if model.modality == "text":
        data = ["".join(map(chr, rng.integers(32, 97, 100 * 1000 + 1)))]
    else:
        data = rng.integers(0, 256, (2560, 28, 28, 1), "uint8")
    steps = {"epochs": 1, "steps_per_epoch": WARM_UP + STEPS + 1}
    options = {"batch_size": batch_size, "run_dir": False, "verbose": 0}
    model.fit(data, callbacks=Clock(), **steps, **options)
    return (1000 * np.diff(times))[WARM_UP:].tolist()


def in_processes(kind, name, batch_size):
    """Runs one measurement in as many processes as it has workers; returns the first's times."""
    workers = 2 if kind == "2 workers" else 1
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(workers)]
    places = [f"127.0.0.1:{server.getsockname()[1]}" for server in servers]
    for server in servers:
        server.close()
    command = [sys.executable, __file__, name, "--batch_size", str(batch_size), "--measure", kind]
    running = []
    for i in range(workers):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        if "worker" in kind:
            task = {"type": "worker", "index": i}
            environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": places}, "task": task})
        running.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        )
    outputs = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit(f"The measurement of {kind} failed; its error is above.")
    return json.loads(outputs[0].splitlines()[-1])


def main():
    """Parses the command line and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", default="dcgan", metavar="recipe")
    parser.add_argument("--batch_size", type=int, default=128, help="items of all together")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.name, arguments.batch_size)))
        return
    print(f"{arguments.name}, batches of {arguments.batch_size}, {os.cpu_count()} cores\n")
    print("| | step, ms: median (min) | items/s | against 1 device |")
    print("|---|---|---|---|", flush=True)
    first = None
    for kind in ("1 device", "2 devices", "1 worker", "2 workers"):
        times = in_processes(kind, arguments.name, arguments.batch_size)
        median = statistics.median(times)
        first = first or median
        rate = 1000 * arguments.batch_size / median
        print(f"| {kind} | {median:.0f} ({min(times):.0f}) | {rate:.0f} | {first / median:.2f} |")


if __name__ == "__main__":
    main()
