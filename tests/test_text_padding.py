"""Padding of texts for classifiers whose head reads the last token that is not padding, with a real GPT-2 of transformers."""

import json
import warnings

import pytest
import torch

from expunge.sources import load
from test_texts import refused, write

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

ROWS = [
    {"text": " ".join(["ball"] * (1 + k % 5) + [f"word{k % 3}"]), "label": "ab"[k % 2], "id": k}
    for k in range(20)
]


@pytest.fixture
def folder(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    words = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator(
        [r["text"] for r in ROWS], trainers.WordLevelTrainer(special_tokens=["[UNK]", "[END]"])
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", eos_token="[END]"
    )
    config = transformers.GPT2Config(
        vocab_size=words.get_vocab_size(), n_embd=16, n_layer=2, n_head=2, n_positions=32, num_labels=2, pad_token_id=1,
        bos_token_id=1, eos_token_id=1, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.GPT2ForSequenceClassification(config).save_pretrained(tmp_path / "gpt")
    tokenizer.save_pretrained(tmp_path / "gpt")
    return tmp_path / "gpt"


def read(folder, length=12):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        source = load(f"text:{write(folder.parent / 'a.csv', ROWS)}?tokenizer={folder}&length={length}")
    return source.train, " ".join(str(w.message) for w in caught if "expunge" in str(w.filename))


def change(file, **entries):
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


def alone(folder, texts):
    """Logits of each text without any padding, as of the model's own library."""
    model = transformers.GPT2ForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in texts])


def logits(folder, x):
    model = transformers.GPT2ForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(**x).logits


@pytest.mark.parametrize("side", ["right", "left"])
def test_logits_of_padded_texts_are_those_of_the_texts_alone(folder, side):
    """GPT-2 has learned positions: on the left, padding shifts them, so that logits depended on `length`."""
    change(folder / "tokenizer_config.json", pad_token="[END]", padding_side=side)
    wanted = None
    for length in (8, 20):
        data, told = read(folder, length)
        assert ("pads on the left" in told and "padded on the right" in told) == (side == "left")
        wanted = alone(folder, data.texts) if wanted is None else wanted
        torch.testing.assert_close(logits(folder, data.x), wanted, atol=1e-5, rtol=1e-5)
    # the control: with padding on the left, the logits are others
    left = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    x = left(list(data.texts), padding="max_length", max_length=20, return_tensors="pt")
    assert (logits(folder, dict(x)) - wanted).abs().max() > 1e-3


def test_the_padding_token_is_that_of_the_model(folder):
    data, told = read(folder)
    assert "has no padding token: texts are padded with [END], token 1, which config.json names" in told
    torch.testing.assert_close(logits(folder, data.x), alone(folder, data.texts), atol=1e-5, rtol=1e-5)
    spec = f"text:{write(folder.parent / 'a.csv', ROWS)}?tokenizer={folder}&length=12"
    change(folder / "config.json", pad_token_id=None)
    assert "set tokenizer.pad_token and save it again" in str(refused(spec))
    # a padding token of the tokenizer alone: the head would take it for the end of the text
    change(folder / "tokenizer_config.json", pad_token="[UNK]")
    text = str(refused(spec))
    assert 'has the "pad_token_id" null' in text and 'write "pad_token_id": 0 in config.json' in text
    change(folder / "config.json", pad_token_id=1)
    assert 'pads with token 0 ([UNK]), and config.json has the "pad_token_id" 1' in str(refused(spec))
    # the control: the head of an encoder reads the attention mask, not the padding token
    bert = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_attention_heads=2, num_hidden_layers=1, pad_token_id=1
    )
    bert.save_pretrained(folder)
    assert "padding" not in read(folder)[1]


def test_the_side_stays_where_the_head_reads_the_last_position(folder):
    change(folder / "tokenizer_config.json", pad_token="[END]", padding_side="left")
    transformers.XLNetConfig(vocab_size=40, d_model=16, n_head=2, n_layer=1, d_inner=16).save_pretrained(
        folder
    )
    data, told = read(folder)
    assert "left" not in told and bool((data.x["attention_mask"][:, -1] == 1).all())
