import threading

import numpy as np
import pytest
import torch
from PIL import Image

from sgid.runtime.threads import PIECE, pixel_batches

CPU = torch.device("cpu")
IMAGES = [Image.new("RGB", (2, 2), (i, 0, 0)) for i in range(3 * PIECE + 5)]


def stacked(images):
    return torch.stack([torch.tensor(np.asarray(image)).permute(2, 0, 1) for image in images])


@pytest.mark.parametrize("size", [1, 7, PIECE, PIECE + 1, 1000])
def test_all_in_order_in_batches(size):
    batches = list(pixel_batches(IMAGES, size, stacked, CPU))
    assert [len(one) for one in batches[:-1]] == [size] * (len(batches) - 1)
    assert torch.equal(torch.cat(batches), stacked(IMAGES))


def test_nothing():
    assert list(pixel_batches([], 4, stacked, CPU)) == []


def test_the_next_batch_is_begun_before_one_is_handed_out_and_no_more():
    begun, second = [], threading.Event()

    def prepare(images):
        first = images[0].getpixel((0, 0))[0]
        begun.append(first)
        if first == 2:
            second.set()
        return stacked(images)

    batches = pixel_batches(IMAGES, 2, prepare, CPU)
    next(batches)
    assert second.wait(10)
    assert sorted(begun) == [0, 2]
    batches.close()


def test_what_goes_wrong_in_a_thread_comes_through():
    def broken(images):
        raise OSError("cannot be read")

    with pytest.raises(OSError, match="cannot be read"):
        list(pixel_batches(IMAGES, 4, broken, CPU))
