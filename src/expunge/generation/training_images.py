"""The latents that an erasure trains on: encoded images of folders, or latents that the pipeline samples."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from ..data.items import check_range, to_8_bits
from ..data.resize import Resize
from ..data.tensors import TensorData
from ..errors import raise_all
from ..sources.folders import ImageFolder
from ..sources.image_walk import Walk, readable_suffixes, walk_images
from ..sources.images import warn_unread
from ..tasks.diffusion import Diffusion
from ..tasks.sampling import Sampler
from .concepts import Erasure
from .latents_file import LatentsFile
from .prompted import Prompted
from .text_to_image import Loaded

# called with what is made, how many are made, and how many there will be
Progress = Callable[[str, int, int], None]
# keeps a batch of latents: takes the position of its first one, and the batch
Keep = Callable[[int, Tensor], None]
# makes latents: takes those that an earlier call made, and what keeps further ones
Make = Callable[[Tensor, Keep], TensorData]


def not_kept(start: int, batch: Tensor) -> None:
    """Keep no latents."""


def kept_latents(path: Path | None, made_of: tuple[object, ...], make: Make) -> TensorData:
    """Return the latents in `path`, or make the rest of them. All latents are in the file as soon as they are made.

    An interrupted call must resume with the same latents. Latents made again on a GPU may differ in the last bits.

    Args:
        path: File of the latents. None for no file.
        made_of: Everything the latents depend on.
        make: Makes the latents.

    Raises:
        ExpungeError: If the file was made with another `made_of`.
    """
    if path is None:
        return make(torch.empty(0), not_kept)
    kept = LatentsFile(path, repr(made_of))
    if kept.data is not None:
        return kept.data
    data = make(kept.latents, kept.add)
    kept.finish(data.labels.tolist(), data.name)
    return data


def image_files(folder: Path, erasure: Erasure) -> dict[str, list[Path]]:
    """List the image files below the sub-folder of each concept, sorted, and decode each once.

    An image in the sub-folders of two concepts, such as "dress" and "dress/red", belongs to the inner one. Hidden files are left
    out. Warnings name other files that are not images, and the folders of images that no concept names.

    Raises:
        ExpungeError: With every sub-folder that has no images, and every file that cannot be decoded. An anchor may have no
            images.
    """
    walk = Walk()
    walk_images(folder, "", walk)
    words = dict.fromkeys((*erasure.words, *erasure.kept))
    places = {PurePosixPath(word).as_posix(): word for word in words}
    named: dict[str, list[str]] = {word: [] for word in words}
    unused: Counter[str] = Counter()
    for name in sorted(walk.images):
        above = PurePosixPath(name).parents
        word = next((places[place.as_posix()] for place in above if place.as_posix() in places), None)
        if word is None:
            unused[above[0].as_posix()] += 1
        else:
            named[word].append(name)
    problems = [
        f"{folder / word} has no images ({', '.join(sorted(readable_suffixes()))}); put the images of '{word}' there."
        for word, found in named.items()
        if not found and (word not in erasure.anchors or word in erasure.keep)
    ]
    used = [name for found in named.values() for name in found]
    warn_unread(str(folder), walk.unread, len(walk.images))
    _warn_unused(folder, unused)
    names = np.array(used, dtype=object)
    images = ImageFolder(folder, names, np.zeros(len(names), dtype=np.int64), Resize(1), walk.renamed)
    with ThreadPoolExecutor() as pool:
        raise_all(
            problems + sorted(problem for problem in pool.map(images.problem, range(len(names))) if problem)
        )
    return {word: [folder / walk.renamed.get(name, name) for name in found] for word, found in named.items()}


def _warn_unused(folder: Path, unused: Mapping[str, int], shown: int = 5) -> None:
    """Warn of the folders whose images no concept names."""
    if not unused:
        return
    listed = [
        f"{count:,} in {'the folder itself' if place == '.' else place}" for place, count in unused.items()
    ]
    more = f" and {len(listed) - shown} more folders" if len(listed) > shown else ""
    warnings.warn(
        f"{folder}: {sum(unused.values()):,} images are not used, because no concept names their folder: "
        f"{', '.join(listed[:shown])}{more}. To keep what they show, name the folder as a kept concept (--keep).",
        stacklevel=5,
    )


def contents(files: Mapping[str, Sequence[Path]]) -> list[tuple[str, str, str]]:
    """Return the concept, the file name and the SHA-256 of every image file."""
    return [
        (word, path.name, hashlib.sha256(path.read_bytes()).hexdigest())
        for word, paths in files.items()
        for path in paths
    ]


def no_images(loaded: Loaded, count: int) -> TensorData:
    """Return one empty latent for each of `count` conditions, for a method that reads nothing but the conditions."""
    return TensorData(torch.zeros(count, *loaded.shape), torch.arange(count), name="no images")


def sampled_latents(
    loaded: Loaded,
    model: Prompted,
    task: Diffusion,
    conditions: Tensor,
    sampler: Sampler,
    seed: int,
    progress: Progress,
    done: Tensor,
    keep: Keep,
) -> TensorData:
    """Sample one latent for each of the conditions (N,) of `model`, from the first that is not in `done`."""
    # noise that is added at each step would not be that of the interrupted call
    batches = [done] if len(done) and not sampler.eta else []
    count = sum(map(len, batches))
    for batch in sampler.batches(model, task, conditions, loaded.shape, seed=seed + 1, skip=count):
        # as the file keeps it
        batches.append(batch.float())
        keep(count, batches[-1])
        count += len(batch)
        progress("training images", count, len(conditions))
    return TensorData(torch.cat(batches), conditions, name="drawn by the pipeline")


def read_latents(
    loaded: Loaded,
    files: Mapping[str, Sequence[Path]],
    erasure: Erasure,
    prompts: list[str],
    batch_size: int = 8,
    progress: Progress = lambda what, done, total: None,
    done: Tensor | None = None,
    keep: Keep = not_kept,
) -> TensorData:
    """Encode the images of `image_files`, from the first that is not in `done`.

    The images of a concept take its prompts (templates) in turn.

    Args:
        loaded: The pipeline whose autoencoder encodes.
        files: The image files of each concept.
        erasure: The concepts and templates.
        prompts: The conditions, in order.
        batch_size: Images to encode at once.
        progress: Called after each batch.
        done: Latents of an interrupted call.
        keep: Keeps each batch as soon as it is made.
    """
    paths: list[Path] = []
    conditions: list[int] = []
    for word, of_word in files.items():
        filled = {template.replace("{}", word) for template in (*erasure.templates, "{}")}
        choices = [k for k, prompt in enumerate(prompts) if prompt in filled]
        for k, path in enumerate(of_word):
            paths.append(path)
            conditions.append(choices[k % len(choices)])
    batches = [done] if done is not None and len(done) else []
    for start in range(sum(map(len, batches)), len(paths), batch_size):
        images = torch.stack(
            [picture(path, *loaded.image_size) for path in paths[start : start + batch_size]]
        )
        batches.append(loaded.encode(images))
        keep(start, batches[-1])
        progress("encoded images", start + len(images), len(paths))
    latents = torch.cat(batches) if batches else torch.empty(0, *loaded.shape)
    return TensorData(latents, torch.tensor(conditions), name="images")


def picture(path: Path, height: int, width: int) -> Tensor:
    """Read an image file as (3, height, width) in [0, 1]: resize it to cover that size, then crop the centre."""
    from PIL import Image
    from PIL.Image import Resampling

    with Image.open(path) as opened:
        check_range(opened)
        image = to_8_bits(opened).convert("RGB")
    # the side that is short beside its target fits, and the other is cut
    if image.width * height <= width * image.height:
        size = width, width * image.height // image.width
    else:
        size = height * image.width // image.height, height
    image = image.resize(size, Resampling.BICUBIC)
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    image = image.crop((left, top, left + width, top + height))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
