"""Looking inside models of text: the numbers that the pictures show, and their words."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from contract_data import images, text, tiny
from matplotlib import font_manager
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from keras_genai import explore, pictures, tokenizers, zoo
from keras_genai.explore import figures, texts
from keras_genai.models.text_model import TextModel

WORDS = "no dog saw\nthe cat"
DOCUMENTS = [*text(), "$x^2$ 床\t\n"]


@functools.cache
def built(name="gpt", **overrides):
    """A model that knows some odd characters, with logits that differ."""
    sizes = {"num_layers": 2, "width": 16, "sequence_length": 24} if name == "gpt" else {}
    model = zoo.get(name, data=DOCUMENTS, seed=0, **{**zoo.info(name).tiny, **sizes, **overrides})
    for weight in model.weights:
        weight.assign(weight + 0.3 * np.random.default_rng(1).normal(size=weight.shape))
    return model


def words_of(figure):
    return {found.get_text() for found in figure.findobj(Text)}


@pytest.fixture
def only_matplotlibs_fonts(monkeypatch):
    """No fonts but those that come with matplotlib, none of which has Chinese characters."""
    folder = font_manager.cbook._get_data_path("fonts")
    own = [font for font in font_manager.fontManager.ttflist if str(folder) in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)


# Attention -------------------------------------------------------------------------------------


def test_shares_are_those_by_which_blocks_mix_values():
    model = built()
    ids = model.codec.encode(WORDS)
    network, (first, second) = texts._attending(model)
    shares = texts.shares_of(network, [first, second], ids)
    assert shares.shape == (2, 2, len(WORDS), len(WORDS))
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(np.triu(shares, 1), 0)
    assert (np.tril(shares) > 0).sum() == 4 * len(WORDS) * (len(WORDS) + 1) / 2
    embedding, positions, *_ = network.layers[1:]
    x = positions(embedding(ids[None]))
    for block, mine in zip((first, second), shares, strict=True):
        value = block._heads(x)[2]
        mixed = tf.reshape(tf.transpose(mine @ value, (0, 2, 1, 3)), x.shape)
        added = x + block.output_projection(mixed)
        wide = tf.nn.gelu(block.widen(block.dense_norm(added)), approximate=True)
        expected = added + block.narrow(wide)
        np.testing.assert_allclose(block(x), expected, rtol=1e-4, atol=1e-5)
        x = expected


def test_a_map_for_each_head_of_each_block(tmp_path):
    model = built()
    figure = explore.attention(model, WORDS, path=tmp_path / "maps.png")
    *maps, colours = figure.axes
    assert colours.get_ylabel() == "share, coloured by its square root; grey: not seen"
    of_both_sides = explore.attention(built("bert"), "a dog").axes[-1]
    assert of_both_sides.get_ylabel() == "share, coloured by its square root"
    assert len(explore.attention(built(num_layers=1), "a").axes) == 3
    shares = texts.shares_of(*texts._attending(model), model.codec.encode(WORDS))
    assert [axes.get_title() for axes in maps] == [
        f"block {block}, head {head}" for block in (0, 1) for head in (0, 1)
    ]
    for axes, expected in zip(maps, shares.reshape(4, len(WORDS), -1), strict=True):
        shown = axes.images[0].get_array()
        np.testing.assert_array_equal(shown.filled(0), expected)
        np.testing.assert_array_equal(shown.mask, np.triu(np.ones_like(expected), 1))
    outer = [label.get_text() for label in maps[2].get_yticklabels()]
    assert outer == [label.get_text() for label in maps[3].get_xticklabels()]
    assert "".join(outer) == "no␣dog␣saw↵the␣cat"
    assert (tmp_path / "maps.png").stat().st_size > 10_000


# Next tokens -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt", "char_rnn"])
def test_each_token_is_expected_from_all_before(name):
    model = built(name)
    ids = model.codec.encode(WORDS)
    log_p = texts.log_probabilities(model, ids)
    read = np.concatenate([[model.codec.end], ids])[None]
    expected = tf.nn.log_softmax(model(read))[0]
    np.testing.assert_allclose(log_p, expected, rtol=1e-3, atol=1e-4)


def test_nothing_says_what_the_only_document_begins_with():
    model = tiny("char_rnn", vocabulary="abc")
    model.need_networks()
    log_p = texts.log_probabilities(model, np.array([1, 0, 2]))
    assert np.isnan(log_p[0]).all()
    expected = tf.nn.log_softmax(model(np.array([[1, 0, 2]])))[0]
    np.testing.assert_allclose(log_p[1:], expected, rtol=1e-3, atol=1e-4)
    figure = explore.next_tokens(model, "bac", k=3)
    strip, colours, *panels = figure.axes
    assert to_rgb(strip.patches[0].get_facecolor()) == (0.9, 0.9, 0.9)
    assert strip.get_title().endswith("grey: the first is not predicted")
    assert [axes.get_title().split(",")[0] for axes in panels] == ["1", "2", "3"]


def test_surprise_is_a_colour_and_the_likeliest_are_bars(tmp_path):
    model = built("char_rnn")
    ids = model.codec.encode(WORDS)
    log_p = texts.log_probabilities(model, ids)
    figure = explore.next_tokens(model, WORDS, 4, at=[5, 11, 18], path=tmp_path / "next.png")
    strip, _, *panels = figure.axes
    bits = -log_p[np.arange(len(ids)), ids] / np.log(2)
    share = bits / np.log2(model.num_tokens)
    expected = figures.coloured(share, texts.COLOURS, 0, 1) / 255
    np.testing.assert_allclose([bar.get_facecolor()[:3] for bar in strip.patches], expected)
    assert "".join(t.get_text() for t in strip.texts) == "no␣dog␣saw↵the␣cat"
    assert f"{bits.mean():.2f} bits" in strip.get_title()
    assert strip.get_title().endswith("framed: those below")
    framed = [i for i, bar in enumerate(strip.patches) if bar.get_edgecolor()[:3] == (0, 0, 0)]
    assert framed == [5, 11]
    for axes, place in zip(panels, (5, 11, 18), strict=True):
        widths = np.array([bar.get_width() for bar in axes.patches])
        p = np.sort(np.exp(log_p[place]))[::-1]
        np.testing.assert_allclose(widths[:4], p[:4])
        labels = [label.get_text() for label in axes.get_yticklabels()]
        colours = [to_rgb(bar.get_facecolor()) for bar in axes.patches]
        if place < 18:
            came = colours.index(to_rgb("C1"))
            assert labels[came] == texts.token_name(model.codec, ids[place])
            np.testing.assert_allclose(widths[came], 0.5 ** bits[place])
            assert f": {bits[place]:.1f} bits" in axes.get_title()
        assert colours.count(to_rgb("C1")) == (place < 18)
        assert len(widths) == 4 + (place < 18 and came == 4)
    assert panels[1].get_title().startswith("11, after no␣dog␣saw↵\n")


def test_bars_and_their_axis_are_in_percent_and_end_at_one():
    axes = Figure().subplots()
    texts._draw_bars(axes, [1, 0], 0, np.array([0.04, 0.96]), {0: "a", 1: "b"})
    assert axes.get_xlim() == (0.0, 1.0)
    assert axes.xaxis.get_major_formatter()(0.5) == "50%"
    long, short = axes.texts
    assert (long.get_text(), long.get_ha()) == ("96.0%", "right")
    assert (short.get_text(), short.get_ha()) == ("4.0%", "left")


def test_a_line_ends_after_a_token_with_a_line_break():
    pytest.importorskip("tokenizers")
    lines = [20 * "if a:\n    b\n"]
    sizes = {**zoo.info("char_rnn").tiny, "tokenizer": "bpe", "vocabulary_size": 270}
    model = zoo.get("char_rnn", data=lines, seed=0, **sizes)
    strip = explore.next_tokens(model, lines[0][:24]).axes[0]
    names = [text.get_text() for text in strip.texts]
    line_of = [round(text.get_position()[1]) for text in strip.texts]
    assert any("↵" in name[:-1] for name in names), "a token that goes on after its line break"
    ends = [0, *np.cumsum(["↵" in name for name in names])[:-1]]
    assert line_of == ends


def test_by_default_the_greatest_surprises_are_shown():
    assert texts._places(None, np.array([np.nan, 1, 5, 2, 4, 3])) == [2, 4, 5, 6]
    assert texts._places(None, np.array([np.nan])) == [1]


def test_lines_of_cells():
    found = texts.cells(["ab", "↵", "床", "x" * 77, "Ａ"], [False, True, False, False, False])
    assert found.tolist() == [[0, 0, 2], [0, 2, 1], [1, 0, 2], [1, 2, 77], [2, 0, 2]]
    assert texts.cells(["x" * 79, "y"], [False, False])[1].tolist() == [0, 79, 1], "the last column"


def test_titles_have_the_end_of_what_came_before():
    assert texts._end_of("xx before a long\ntext", str) == "x␣before␣a␣long↵text"
    assert texts._end_of("xxx床床床", lambda c: c.replace("床", "U+5E8A")) == "xx" + 3 * "U+5E8A"
    assert texts._end_of("", str) == "nothing"


# Words -----------------------------------------------------------------------------------------


def test_tokens_can_be_seen():
    codec = tokenizers.load("bytes", tokenizers.END)
    names = [texts.token_name(codec, i) for i in (97, 32, 10, 9, 0, 0xE5, codec.end)]
    assert names == ["a", "␣", "↵", "⇥", "U+0000", "\\xe5", "<|endoftext|>"]


@pytest.mark.parametrize(("function", "name"), [("attention", "gpt"), ("next_tokens", "char_rnn")])
def test_characters_that_no_font_has(function, name, tmp_path, capsys, only_matplotlibs_fonts):
    draw = functools.partial(getattr(explore, function), built(name), "$ 床")
    figure = draw(path=tmp_path / "a.png")
    assert {"U+5E8A", "$"} <= words_of(figure) and not any("床" in w for w in words_of(figure))
    assert "no installed font has '床'" in capsys.readouterr().out
    draw(path=tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text("utf-8")
    assert page.startswith("<!doctype html>") and ">床</text>" in page and "U+5E8A" not in page
    assert capsys.readouterr().out == ""


def test_other_fonts_step_in(only_matplotlibs_fonts):
    own, other = (
        pictures._characters_of(font_manager.findfont(font_manager.FontProperties(family=[name])))
        for name in ("sans-serif", "STIXGeneral")
    )
    families, missing = pictures.fonts_for(f"a {min(filter(str.isprintable, other - own))}床\n")
    assert len(families) == 2 and missing == {"床"}
    assert len(pictures.fonts_for("a ␣↵⇥")[0]) == 1


# Errors ----------------------------------------------------------------------------------------


class Both(TextModel):
    """Reads both ways, so that no token is the next one."""

    def build_networks(self):
        """None."""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: explore.attention(built("char_rnn"), "a"), "no attention.*`gpt`.*`char_rnn`"),
        (lambda: explore.attention(built(), "a" * 25), "at most 24 characters.*Received: 25"),
        (
            lambda: explore.attention(built(sequence_length=99), "a" * 65),
            "at most 64 characters.*Received: 65",
        ),
        (lambda: explore.attention(built(), ""), "not empty. Received: ''"),
        (lambda: explore.attention(built(), "a", path="a.jpg"), "ending in .png or .html"),
        (lambda: explore.attention(tiny("vae"), "a"), "models of text.*Received: VAE vae"),
        (lambda: explore.attention(tiny("gpt"), "a"), "not built yet"),
        (lambda: explore.next_tokens(built("char_rnn"), "Q"), "without these characters"),
        (lambda: explore.next_tokens(built("char_rnn"), ["a"]), r"not empty. Received: \['a'\]"),
        (lambda: explore.next_tokens(built("char_rnn"), "a" * 601), "at most 600.*Received: 601"),
        (
            lambda: explore.next_tokens(built("char_rnn"), "a", 0),
            "`k` is a pos.*Received: k=0",
        ),
        (
            lambda: explore.next_tokens(built("char_rnn"), "a", at=[2]),
            r"0 to 1.*at=\[2\]",
        ),
        (lambda: explore.next_tokens(Both("ab"), "a"), "left to right.*`gpt`. Received: `Both`"),
        (lambda: explore.saliency(built(), images(1)), "models of images.*`attention`.*GPT gpt"),
        (lambda: explore.LatentSpace(built()), "models of images.*`attention`.*GPT gpt"),
    ],
)
def test_mistakes_are_explained(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}") as caught:
        call()
    assert "Received: " in str(caught.value)
