"""Names of the files beside a checkpoint and inside of its folder. A version such as `bert-v1.5` is part of a name, and no suffix."""

from __future__ import annotations

from pathlib import Path

# endings of files that may hold tensors
DATA_SUFFIXES = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".msgpack",
    ".onnx",
    ".gguf",
    ".npz",
    ".pkl",
)
# names of the files that tokenizers and processors of transformers write and read; no other file is copied
PREPARATION = frozenset(
    (
        "added_tokens.json", "bpe.codes", "chat_template.jinja", "chat_template.json", "dict.txt", "emoji.json",
        "entity_vocab.json", "merges.txt", "normalizer.json", "preprocessor_config.json", "processor_config.json",
        "prophetnet.tokenizer", "sentencepiece.bpe.model", "sentencepiece.model", "source.spm", "special_tokens_map.json",
        "spiece.model", "spm.model", "spm_char.model", "target.spm", "target_vocab.json", "tokenizer.json", "tokenizer.model",
        "tokenizer_config.json", "video_preprocessor_config.json", "vocab-src.json", "vocab-tgt.json", "vocab.json", "vocab.txt",
        "word_pronunciation.json", "word_shape.json",
    )
)  # fmt: skip
# configurations of the model itself, of its text generation, and of an adapter
CONFIGS = frozenset(("config.json", "generation_config.json", "adapter_config.json"))
# the card and the licence of a model, which people publish with it
CARDS = frozenset(("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE"))
# endings that say what a file is; after any other dot the name goes on
FILE_SUFFIXES = frozenset((*DATA_SUFFIXES, ".failed", ".json", ".mdl", ".model", ".tar", ".th", ".weights"))


def file_suffix(path: Path) -> str:
    """Return the suffix of a file. Empty for names such as `bert` and `bert-v1.5`.

    Example:
        >>> file_suffix(Path("model.safetensors")), file_suffix(Path("bert-v1.5"))
        ('.safetensors', '')
    """
    return path.suffix if path.suffix.lower() in FILE_SUFFIXES else ""


def existing_beside(path: Path, ending: str) -> Path:
    """Return `beside`, or the file that earlier versions wrote, which took a version for a suffix: `bert-v1.json` of `bert-v1.5`."""
    file, earlier = beside(path, ending), path.with_suffix(ending)
    return earlier if earlier.exists() and not file.exists() else file


def same_names(path: Path) -> list[Path]:
    """Return the other checkpoints in the folder of `path` whose files beside them have the same names: `m.pt` and `m.safetensors`."""
    stem = path.name.removesuffix(file_suffix(path))
    others = [path.with_name(f"{stem}{ending}") for ending in ("", *DATA_SUFFIXES, ".th", ".model", ".mdl")]
    return [other for other in others if other.name != path.name and other.exists()]


def beside(path: Path, ending: str) -> Path:
    """Return the file beside a checkpoint whose name ends with `ending` in place of the suffix.

    Example:
        >>> beside(Path("a/model.pt"), ".json").as_posix(), beside(Path("a/bert-v1.5"), ".json").as_posix()
        ('a/model.json', 'a/bert-v1.5.json')
    """
    return path.with_name(path.name.removesuffix(file_suffix(path)) + ending)
