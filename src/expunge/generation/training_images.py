"""The latents that an erasure trains on: encoded images of folders, or latents that the pipeline samples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.items import check_range, to_8_bits
from ..data.resize import Resize
from ..data.tensors import TensorData
from ..errors import ExpungeError, raise_all
from ..records.torch_files import load_state, save_state
from ..sources.folders import ImageFolder
from ..sources.image_walk import Walk, readable_suffixes, walk_images
from ..sources.images import warn_unread
from ..tasks.diffusion import Diffusion
from ..tasks.sampling import Sampler
from .concepts import Erasure
from .prompted import Prompted
from .text_to_image import Loaded

# called with what is made, how many are made, and how many there will be
Progress = Callable[[str, int, int], None]
# makes latents: takes those that an earlier call made, and a function that keeps the latents so far
Make = Callable[[Tensor, Callable[[Tensor], None]], TensorData]


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
        return make(torch.empty(0), lambda latents: None)
    identity, done = repr(made_of), torch.empty(0)
    if path.exists():
        state = load_state(path)
        if state.get("identity") != identity:
            raise ExpungeError(
                f"{path} holds the latents of another call: pipeline, prompts, images, their number, sampler or seed "
                "differ. Remove the file to start again, or repeat the settings of that call."
            )
        if "conditions" in state:
            return TensorData(state["latents"], state["conditions"], name=state["name"])
        done = state["latents"]
    data = make(done, lambda latents: save_state(path, {"identity": identity, "latents": latents}))
    save_state(path, {"identity": identity, "latents": data.x, "conditions": data.labels, "name": data.name})
    return data


def image_files(folder: Path, erasure: Erasure) -> dict[str, list[Path]]:
    """List the image files below the sub-folder of each concept, sorted, and decode each once.

    Hidden files are left out. A warning names other files that are not images.

    Raises:
        ExpungeError: With every sub-folder that has no images, and every file that cannot be decoded. An anchor may have no
            images.
    """
    walk, paths, problems = Walk(), {}, []
    for word in dict.fromkeys((*erasure.words, *erasure.kept)):
        before = len(walk.images)
        if (folder / word).is_dir():
            walk_images(folder, word, walk)
        paths[word] = [folder / walk.renamed.get(name, name) for name in sorted(walk.images[before:])]
        if not paths[word] and (word not in erasure.anchors or word in erasure.keep):
            problems.append(
                f"{folder / word} has no images ({', '.join(sorted(readable_suffixes()))}); put the images of '{word}' there."
            )
    warn_unread(str(folder), walk.unread, len(walk.images))
    names = np.array(walk.images, dtype=object)
    images = ImageFolder(folder, names, np.zeros(len(names), dtype=np.int64), Resize(1), walk.renamed)
    with ThreadPoolExecutor() as pool:
        raise_all(
            problems + sorted(problem for problem in pool.map(images.problem, range(len(names))) if problem)
        )
    return paths


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
    keep: Callable[[Tensor], None],
) -> TensorData:
    """Sample one latent for each of the conditions (N,) of `model`, from the first that is not in `done`."""
    # noise that is added at each step would not be that of the interrupted call
    if sampler.eta or not len(done):
        done = torch.empty(0, *loaded.shape)
    for batch in sampler.batches(model, task, conditions, loaded.shape, seed=seed + 1, skip=len(done)):
        done = torch.cat([done, batch])
        keep(done)
        progress("training images", len(done), len(conditions))
    return TensorData(done, conditions, name="drawn by the pipeline")


def read_latents(
    loaded: Loaded,
    files: Mapping[str, Sequence[Path]],
    erasure: Erasure,
    prompts: list[str],
    batch_size: int = 8,
    progress: Progress = lambda what, done, total: None,
    done: Tensor | None = None,
    keep: Callable[[Tensor], None] = lambda latents: None,
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
        keep: Called with all latents so far after each batch.
    """
    paths: list[Path] = []
    conditions: list[int] = []
    for word, of_word in files.items():
        filled = {template.replace("{}", word) for template in (*erasure.templates, "{}")}
        choices = [k for k, prompt in enumerate(prompts) if prompt in filled]
        for k, path in enumerate(of_word):
            paths.append(path)
            conditions.append(choices[k % len(choices)])
    if done is None or not len(done):
        done = torch.empty(0, *loaded.shape)
    for start in range(len(done), len(paths), batch_size):
        images = torch.stack(
            [picture(path, *loaded.image_size) for path in paths[start : start + batch_size]]
        )
        done = torch.cat([done, loaded.encode(images)])
        keep(done)
        progress("encoded images", len(done), len(paths))
    return TensorData(done, torch.tensor(conditions), name="images")


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
