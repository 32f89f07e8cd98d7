"""PSNR and SSIM: golden numbers, closed forms, what is refused."""

import json

import golden
import numpy as np
import pytest

from keras_genai.metrics import psnr, ssim

GOLDEN = json.loads(golden.FILE.read_text("utf-8"))


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_equal_scikit_image(metric):
    x, y = golden.image_pairs()
    np.testing.assert_allclose(metric(x, y), GOLDEN[metric.__name__], rtol=1e-10)
    np.testing.assert_allclose(metric(x / 255.0, y / 255.0), GOLDEN[metric.__name__], rtol=1e-10)


def test_equal_images():
    x, _ = golden.image_pairs()
    assert np.isposinf(psnr(x, x)).all()
    np.testing.assert_allclose(ssim(x, x), 1.0, rtol=1e-12)


def test_constant_difference_by_hand():
    x, y = np.full((1, 12, 12, 1), 0.5), np.full((1, 12, 12, 1), 0.6)
    assert psnr(x, y) == pytest.approx(20.0)
    assert ssim(x, y) == pytest.approx((2 * 0.3 + 1e-4) / (0.25 + 0.36 + 1e-4))


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_each_pair_counts_by_itself(metric):
    x, y = golden.image_pairs()
    many = metric(np.repeat(x, 60, axis=0), np.repeat(y, 60, axis=0))  # more than are held at once
    np.testing.assert_allclose(many, np.repeat(metric(x, y), 60))


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_refused(metric):
    x = np.zeros((2, 12, 12, 1), "uint8")
    with pytest.raises(ValueError, match=r"in pairs.*Received: .*\(1, 12, 12, 1\)$"):
        metric(x, x[:1])
    with pytest.raises(ValueError, match=r"in pairs.*Received: shapes \(12, 12\)"):
        metric(x[0, ..., 0], x[0, ..., 0])
    with pytest.raises(ValueError, match=r"uint8.*Received: float64 from 0.0 to 255.0$"):
        metric(x, 255.0 * np.linspace(0, 1, x.size).reshape(x.shape))
    with pytest.raises(ValueError, match=r"uint8.*Received: int64 from 0 to 0$"):
        metric(x.astype("int64"), x.astype("int64"))
    with pytest.raises(ValueError, match=r"uint8.*Received: float64 from nan to nan$"):
        metric(np.full(x.shape, np.nan), np.full(x.shape, np.nan))


def test_window_needs_room():
    x = np.zeros((2, 10, 12, 1), "uint8")
    with pytest.raises(ValueError, match=r"11x11.*Received: images of shape \(10, 12, 1\)$"):
        ssim(x, x)
