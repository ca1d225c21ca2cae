"""Images in tar shards, read sequentially by webdataset; local shards also support random access."""

import contextlib
import tarfile
from collections.abc import Iterator
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from foveal.errors import FovealError
from foveal.image_files import decode_rgb
from foveal.tasks.classification.data.images import Images
from foveal.tasks.classification.data.tar_index import Entry, counts, is_image_ending, label_of
from foveal.training.streaming import ShardedSamples


def open_url(url: str) -> Any:
    """Open a byte stream from a file, an address, or a command (``pipe:...``) with webdataset."""
    try:
        from webdataset.gopen import gopen
    except ModuleNotFoundError as error:
        raise FovealError("Tar shards need webdataset: install it with `pip install 'foveal[train]'`.") from error
    return gopen(url)


class _TarShards(Images, ShardedSamples):
    """Base class of local and remote shards."""

    def __init__(
        self, urls: list[str], sizes: list[int], classes: list[str], names: list[str], targets: list[int]
    ) -> None:
        super().__init__(classes, names, targets)
        self.urls, self.sizes = urls, sizes

    def decode(self, raw: dict[str, Any]) -> tuple[Any, int]:
        ending = next(filter(is_image_ending, raw), None)
        name = f"{raw['__url__']}/{raw['__key__']}.{ending}"
        if ending is None:
            raise FovealError(f"{raw['__url__']}/{raw['__key__']} has no image: write the shard again.")
        label = label_of(raw, name)
        if not 0 <= label < len(self.classes):
            raise FovealError(f"{name} has the label {label}, and classes range from 0 to {len(self.classes) - 1}.")
        return self.transformed(decode_rgb(raw[ending], name, self.upright)), self.class_of(label)

    def _samples(self, shard: int, stream: Any, skip: int, left: int) -> Iterator[dict[str, Any]]:
        """Yield the samples of a stream after the first ``skip``; there must be ``left`` of them."""
        from webdataset.tariterators import group_by_keys, tar_file_expander

        url, count = self.urls[shard], 0
        try:
            samples = group_by_keys(tar_file_expander([{"url": url, "stream": stream}], select_files=counts))
            for sample in islice(samples, skip, None):
                count += 1
                if count > left:
                    break
                yield sample
        except (OSError, EOFError, ValueError, tarfile.TarError) as error:
            raise FovealError(f"The shard {url} cannot be read to its end: check the file and the network.") from error
        finally:
            with contextlib.suppress(OSError):  # a command that is stopped early reports a broken pipe
                stream.close()
        if count != left:
            raise FovealError(
                f"The shard {url} has {'more' if count > left else 'fewer'} than the {left + skip} images of its "
                "index: copy the shard or write the index again."
            )


class LocalShards(_TarShards):
    """Local shards, whose headers have been read."""

    random_access = True

    def __init__(self, urls: list[str], shards: list[list[Entry]], classes: list[str]) -> None:
        entries = [(url, entry) for url, shard in zip(urls, shards, strict=True) for entry in shard]
        names = [f"{url}/{entry.image.name}" for url, entry in entries]
        sizes = [len(shard) for shard in shards]
        super().__init__(urls, sizes, classes, names, [entry.label for _, entry in entries])
        self.places = np.array([(e.header, e.image.data, e.image.size) for _, e in entries], dtype=np.int64)
        self.ends = np.cumsum(sizes)

    def load(self, index: int) -> Image.Image:
        _, begin, size = map(int, self.places[index])
        url = self.urls[int(np.searchsorted(self.ends, index, side="right"))]
        with _open(url) as file:
            file.seek(begin)
            return decode_rgb(file.read(size), self.names[index], self.upright)

    def read(self, shard: int, start: int = 0) -> Iterator[dict[str, Any]]:
        first = int(self.ends[shard]) - self.sizes[shard] + start
        if start >= self.sizes[shard]:
            return
        stream = _open(self.urls[shard])
        stream.seek(int(self.places[first, 0]))
        yield from self._samples(shard, stream, 0, self.sizes[shard] - start)


class RemoteShards(_TarShards):
    """Remote shards, whose names and labels are only known once they are read."""

    random_access = False

    def __init__(self, urls: list[str], sizes: list[int], classes: list[str]) -> None:
        names = [f"{url}#{number}" for url, size in zip(urls, sizes, strict=True) for number in range(size)]
        super().__init__(urls, sizes, classes, names, [])
        self.ends = list(accumulate(sizes))

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.decode(self._raw(index))

    def load(self, index: int) -> Image.Image:
        raw = self._raw(index)
        return decode_rgb(raw[next(filter(is_image_ending, raw))], self.names[index], self.upright)

    def read(self, shard: int, start: int = 0) -> Iterator[dict[str, Any]]:
        try:
            stream = open_url(self.urls[shard])
        except OSError as error:
            raise FovealError(
                f"The shard {self.urls[shard]} cannot be opened: check the address and the network."
            ) from error
        yield from self._samples(shard, stream, start, self.sizes[shard] - start)

    def _raw(self, index: int) -> dict[str, Any]:
        shard = next(number for number, end in enumerate(self.ends) if index < end)
        return next(self.read(shard, index - self.ends[shard] + self.sizes[shard]))


def _open(url: str) -> Any:
    try:
        return Path(url).open("rb")
    except OSError as error:
        raise FovealError(f"The shard {url} cannot be read ({error.strerror}): check --data.") from error
