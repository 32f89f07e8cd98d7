import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_genai import data
from keras_genai.data import DataError
from keras_genai.data.arrays import ArraySource
from keras_genai.data.pipeline import Share, eval_batches, steps_per_epoch, train_batches
from keras_genai.data.stream import StreamSource
from keras_genai.models.text_model import TextWindows


def numbered(count):
    """A source whose item i is a 2x2 image of the number i, with the label i."""
    images = np.zeros((count, 2, 2, 1), np.uint8)
    images += np.arange(count, dtype=np.uint8)[:, None, None, None]
    return ArraySource({"image": images, "label": np.arange(count, dtype="int32")}, name="numbered")


def labels_of(source, batch_size, start, stop, seed=0, **options):
    position = tf.Variable(start, dtype=tf.int64)
    end = tf.Variable(stop, dtype=tf.int64)
    where = {"position": position, "end": end}
    batches = train_batches(source, batch_size, seed=seed, **where, **options)
    return [batch["label"].numpy().tolist() for batch in batches]


def test_an_epoch_holds_every_item_once_in_an_order_of_its_own():
    source = numbered(20)
    first, second = (sum(labels_of(source, 5, k, k + 4), []) for k in (0, 4))
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert list(range(20)) not in (first, second)


def test_each_epoch_takes_another_cut_and_evaluation_the_first():
    source = TextWindows(data.load(["x" * 23]).train, np.arange(23, dtype="int32"), 5)
    assert len(source) == 4 and source.cuts == 5

    def starts(epoch, **options):
        position, end = (tf.Variable(k, dtype=tf.int64) for k in (epoch, epoch + 1))
        batches = train_batches(source, 4, seed=0, position=position, end=end, **options)
        (windows,) = [batch["text"].numpy() for batch in batches]
        assert (np.diff(windows) == 1).all() and windows.shape == (4, 6)
        return sorted(windows[:, 0].tolist())

    cuts = [[min(5 * i + k, 17) for i in range(4)] for k in range(5)]
    epochs = [starts(epoch) for epoch in range(10)]
    assert sorted(epochs[:5]) == sorted(epochs[5:]) == sorted(cuts), "each comes once"
    assert epochs[:5] != epochs[5:]
    assert starts(3, shuffle=False) == cuts[0]
    (evaluated,) = eval_batches(source, 9)
    assert evaluated["text"].numpy()[:, 0].tolist() == cuts[0]


def test_the_remainder_is_left_out_and_is_another_each_epoch():
    left_out = set()
    for epoch in range(20):
        items = sum(labels_of(numbered(11), 4, 2 * epoch, 2 * epoch + 2), [])
        assert len(set(items)) == 8
        left_out |= set(range(11)) - set(items)
    assert left_out == set(range(11))


def test_neighbours_do_not_stay_side_by_side():
    order = [np.array(sum(labels_of(numbered(200), 50, 4 * e, 4 * e + 4), [])) for e in range(20)]
    # Two neighbours out of 200 stay side by side with a chance of 1 %.
    assert max(np.mean(np.abs(np.diff(items)) == 1) for items in order) < 0.08
    correlation = np.corrcoef(order) - np.eye(20)
    assert np.abs(correlation).max() < 0.35


def test_entering_anywhere_gives_the_tail_of_the_sequence():
    source = numbered(23)
    whole = labels_of(source, 4, 0, 17)
    assert len(whole) == 17
    for position in (1, 5, 6, 16):
        assert labels_of(source, 4, position, 17) == whole[position:]
    assert labels_of(source, 4, 17, 17) == []


def test_variables_are_read_each_time_an_iterator_is_made():
    position, end = tf.Variable(0, dtype=tf.int64), tf.Variable(3, dtype=tf.int64)
    batches = train_batches(numbered(12), 2, seed=0, position=position, end=end)
    whole = labels_of(numbered(12), 2, 0, 9)
    assert [b["label"].numpy().tolist() for b in batches] == whole[:3]
    position.assign(3)
    end.assign(9)
    assert [b["label"].numpy().tolist() for b in batches] == whole[3:]


def test_seeds_give_orders_of_their_own_and_epochs_are_not_shifted_seeds():
    source = numbered(50)
    orders = {
        (seed, epoch): tuple(labels_of(source, 50, epoch, epoch + 1, seed=seed)[0])
        for seed in (0, 1, 2, -1, 2**40)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == len(orders)


def test_images_and_labels_stay_together_and_shapes_are_static():
    position, end = tf.Variable(2, dtype=tf.int64), tf.Variable(5, dtype=tf.int64)
    batches = train_batches(numbered(30), 8, seed=3, position=position, end=end)
    assert batches.element_spec["image"].shape == (8, 2, 2, 1)
    assert batches.element_spec["image"].dtype == tf.uint8
    for batch in batches:
        np.testing.assert_array_equal(batch["image"][:, 1, 1, 0], batch["label"])


CHILD = """
import json
import numpy as np, tensorflow as tf
from keras_genai.data.arrays import ArraySource
from keras_genai.data.pipeline import train_batches
tf.random.set_seed(3)
source = ArraySource({"label": np.arange(40)}, name="numbers")
at = [tf.Variable(n, dtype=tf.int64) for n in (5, 12)]
batches = train_batches(source, 7, seed=5, position=at[0], end=at[1])
print(json.dumps([batch["label"].numpy().tolist() for batch in batches]))
"""


def test_two_processes_see_the_same_batches():
    child = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=100, check=True
    )
    assert json.loads(child.stdout) == labels_of(numbered(40), 7, 0, 12, seed=5)[5:]


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras, at a first epoch's end
def test_keras_starts_each_epoch_where_the_variables_say():
    position, end = tf.Variable(0, dtype=tf.int64), tf.Variable(3, dtype=tf.int64)
    seen = []

    class Reader(keras.Model):
        def train_step(self, data):
            tf.py_function(lambda y: seen.append(y.numpy().tolist()), [data["label"]], [])
            return {"items": tf.constant(4.0)}

    class Onwards(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            position.assign(end)
            end.assign_add(3)

    model = Reader()
    model.compile(run_eagerly=True)
    batches = train_batches(numbered(12), 4, seed=1, position=position, end=end)
    model.fit(batches, epochs=3, verbose=0, shuffle=False, callbacks=[Onwards()])
    assert seen == labels_of(numbered(12), 4, 0, 9, seed=1)


def test_autotune_is_off():
    position, end = tf.Variable(0, dtype=tf.int64), tf.Variable(1, dtype=tf.int64)
    train = train_batches(numbered(4), 2, seed=0, position=position, end=end)
    for batches in (train, eval_batches(numbered(4), 2)):
        assert batches.options().autotune.enabled is False
        assert batches.options().deterministic is True


def test_eval_batches_keep_order_and_the_last_partial_batch():
    batches = eval_batches(numbered(10), 4)
    assert batches.cardinality().numpy() == 3
    assert [b["label"].numpy().tolist() for b in batches] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]


def test_too_few_items_and_bad_batch_sizes_are_refused():
    assert steps_per_epoch(numbered(9), 4) == 2
    with pytest.raises(DataError, match=r"batch_size=3`\. Received: 3 items, batch_size=4"):
        steps_per_epoch(numbered(3), 4)
    for bad in (0, -1, 2.0, True):
        with pytest.raises(DataError, match=rf"at least 1\. Received: batch_size={bad!r}"):
            eval_batches(numbered(3), bad)


def stream_of(dataset):
    return StreamSource(dataset.map(lambda i: tf.cast(tf.reshape(i, (1, 1, 1, 1)), tf.uint8) + 2))


def stream_values(source, *spans):
    position, end = tf.Variable(0, dtype=tf.int64), tf.Variable(0, dtype=tf.int64)
    batches = train_batches(source, 1, seed=0, position=position, end=end)
    for start, stop in spans:
        position.assign(start)
        end.assign(stop)
        yield [int(batch["image"][0, 0, 0, 0]) - 2 for batch in batches]


def test_a_finite_stream_goes_round_and_is_entered_anywhere():
    source = stream_of(tf.data.Dataset.range(4))
    assert source.num_batches == 4
    assert source.exact is False
    spans = [(0, 3), (3, 6), (2, 5), (9, 11)]
    assert list(stream_values(source, *spans)) == [[0, 1, 2], [3, 0, 1], [2, 3, 0], [1, 2]]


def test_an_endless_stream_is_not_wound_back_between_epochs():
    pulled = []

    def count():
        for i in range(100):
            pulled.append(i)
            yield i

    signature = tf.TensorSpec((), tf.int64)
    source = stream_of(tf.data.Dataset.from_generator(count, output_signature=signature))
    assert source.num_batches is None
    pulled.clear()
    assert list(stream_values(source, (0, 4), (4, 8), (8, 12))) == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]
    assert pulled.count(0) == 1


def test_a_stream_that_can_be_read_only_once_is_refused_in_its_second_pass():
    once = iter(range(5))  # two go into the look at the first batch
    dataset = tf.data.Dataset.from_generator(
        lambda: once, output_signature=tf.TensorSpec((), tf.int64)
    )
    source = stream_of(dataset)
    with pytest.raises(tf.errors.OpError, match="second pass.*Received"):
        list(stream_values(source, (0, 20)))


def test_two_workers_share_each_batch_of_training():
    """The first feeds two replicas of three, the second one."""
    source = numbered(20)
    two = labels_of(source, 6, 0, 3, share=Share(0, 2, 3))
    one = labels_of(source, 6, 0, 3, share=Share(2, 1, 3))
    batches = [two[2 * i] + two[2 * i + 1] + one[i] for i in range(3)]
    assert batches == labels_of(source, 6, 0, 3)


def test_replicas_share_each_batch_of_evaluation():
    """Of the last batch, of one item, the second replica has none: it is lent one."""
    shares = [
        [(items["label"].numpy().tolist(), int(own)) for items, own in batches]
        for batches in (eval_batches(numbered(9), 4, Share(i, 1, 2)) for i in (0, 1))
    ]
    assert shares[0] == [([0, 1], 1), ([4, 5], 1), ([8], 1)]
    assert shares[1] == [([2, 3], 1), ([6, 7], 1), ([8], 0)]


def test_what_the_user_wrote_into_a_private_mapping_is_what_is_read(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((64, 4, 4, 1), "uint8"))
    x = np.load(tmp_path / "x.npy", mmap_mode="c")
    x[...] = 7
    source = data.load(x).train
    for _ in range(2):
        assert (source.gather(tf.range(8, dtype="int64"))["image"].numpy() == 7).all()
