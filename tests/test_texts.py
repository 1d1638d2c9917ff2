"""Tables of labelled texts, and classifiers from folders of transformers: reading, refusals, training, loading again."""

import csv
import json
import warnings

import pytest
import torch

from expunge import ExpungeError, ModelError, Split, SplitError, StreamData
from expunge.cli import main
from expunge.models import build
from expunge.sources import load

ROWS = [
    {
        "text": f"{word} number {k}, said user {k % 4}",
        "label": label,
        "id": f"r{label}{k}",
        "user": f"u{k % 4}",
    }
    for label, word in (("good", "fine"), ("bad", "poor"), ("odd", "strange"))
    for k in range(10)
]


def write(path, rows=ROWS):
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(r) for r in rows) + "\n\n")
    elif path.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as file:
            names = list(dict.fromkeys(k for r in rows for k in r))
            table = csv.DictWriter(file, names, delimiter="\t" if path.suffix == ".tsv" else ",")
            table.writeheader()
            table.writerows(rows)
    return path


def refused(spec):
    with pytest.raises(ExpungeError) as caught:
        load(spec)
    return caught.value


@pytest.mark.parametrize("ending, mark", [("csv", ","), ("tsv", "\t")])
def test_rows_whose_cells_do_not_fit_the_header_are_refused(tmp_path, ending, mark):
    path = write(tmp_path / f"t.{ending}")
    lines = path.read_text().splitlines()
    lines[2] += f"{mark}one more"
    lines[3] = lines[3].rpartition(mark)[0]
    path.write_text("\n".join(lines))
    error = refused(f"text:{path}")
    assert len(error.problems) == 2
    assert "line 3 has 5 cells, but the header has 4 (last cell: 'one more')" in error.problems[0]
    assert (
        "line 4 has 3 cells" in error.problems[1]
        and "put texts with separators in quotes" in error.problems[1]
    )


def test_a_header_that_names_a_column_twice_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("text,label,label\na,b,c\n")
    assert "the column 'label' more than once" in str(refused(f"text:{tmp_path / 't.csv'}"))


def test_quoted_separators_and_line_ends_stay_in_their_text(tmp_path):
    rows = [{**row, "user": 'Doe, "Jane"\nJr.'} for row in ROWS]
    source = load(f"text:{write(tmp_path / 't.csv', rows)}")
    assert set(source.train.groups["user"]) == {'Doe, "Jane"\nJr.'}


def test_ids_that_begin_anew_in_a_test_table_name_other_samples(tmp_path):
    table = lambda name, first: write(  # noqa: E731
        tmp_path / name, [{"text": f"text {first + k}", "label": "ab"[k % 2], "id": k} for k in range(8)]
    )
    train = table("train.csv", 0)
    source = load(f"text:{train}?test={table('test.csv', 100)}&length=4")
    assert source.test.ids.tolist() == [f"test/{k}" for k in range(8)] and source.train.ids.tolist() == [
        *"01234567"
    ]
    assert Split.by_ids(source.train, source.test, ["3"], validation=0).forget.ids == ["3"]
    # the same rows under the same ids are the same samples
    same = load(f"text:{train}?test={table('same.csv', 0)}&length=4")
    with pytest.raises(SplitError, match="8 ids are in the training set and in the test set"):
        Split.by_ids(same.train, same.test, ["3"], validation=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of a small BERT and its tokenizer, with classes in an order that no sorting gives."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    place = tmp_path_factory.mktemp("bert")
    words = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator(
        [r["text"] for r in ROWS], trainers.WordLevelTrainer(special_tokens=["[PAD]", "[UNK]"])
    )
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    made.save_pretrained(place)
    names = {0: "odd", 1: "good", 2: "bad"}
    config = transformers.BertConfig(
        vocab_size=words.get_vocab_size(), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16, num_labels=3, id2label=names, label2id={n: k for k, n in names.items()},
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(place)
    return place


@pytest.mark.parametrize("end", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_table_format_gives_the_same_data(tmp_path, end):
    source = load(f"text:{write(tmp_path / f'all{end}')}?length=6")
    assert source.classes == ["bad", "good", "odd"] and source.shape == (6,) and source.name == "all"
    assert (len(source.train), len(source.test)) == (24, 6)
    assert torch.bincount(source.test.labels).tolist() == [2, 2, 2]
    assert {n[1:-1] for n in source.train.ids} == {"good", "bad", "odd"}
    assert (
        source.train.fingerprint()
        == load(f"text:{write(tmp_path / 'again.csv')}?length=6").train.fingerprint()
    )
    split = Split.by_group(source.train, source.test, "user", ["u1"], validation=0)
    assert len(split.forget) and all(int(i[-1]) % 4 == 1 for i in split.forget.ids)
    x = next(source.train.samples().batches(100)).x
    assert x["input_ids"].shape == x["attention_mask"].shape == (24, 6)
    assert x["input_ids"].max() < 8192 and torch.equal(x["attention_mask"], (x["input_ids"] > 0).long())
    assert len(x["input_ids"][:, 1].unique()) == 1  # the word "number" is the same token everywhere


def test_column_names_row_numbers_and_a_test_file(tmp_path):
    rows = [{"body": f"a b{k}", "stars": k % 5} for k in range(40)]
    write(tmp_path / "a.csv", rows)
    write(tmp_path / "b.jsonl", rows[:7])
    source = load(f"text:{tmp_path}/a.csv?text=body&label=stars&test={tmp_path}/b.jsonl&limit=20")
    assert (len(source.train), len(source.test), source.classes) == (20, 7, list("01234"))
    assert source.test.labels.tolist() == [0, 1, 2, 3, 4, 0, 1] and source.test.ids is None
    assert [
        int(i) % 5 for i in source.train.ids
    ] == source.train.labels.tolist()  # ids are row numbers in a.csv
    held = load(f"text:{tmp_path}/a.csv?text=body&label=stars")
    assert sorted(map(int, [*held.train.ids, *held.test.ids])) == list(range(40))
    for part in (held.train, held.test):
        assert [int(i) % 5 for i in part.ids] == part.labels.tolist()
    with pytest.raises(SplitError, match=r"lies in the test set.*test=FILE"):
        Split.by_ids(held.train, held.test, held.test.ids[:2].tolist())
    write(tmp_path / "d.csv", [{"id": n, **r} for n, r in enumerate(rows[:7])])
    mixed = load(f"text:{tmp_path}/a.csv?text=body&label=stars&test={tmp_path}/d.csv")
    assert len(Split.by_ids(mixed.train, mixed.test, ["3"], validation=0).forget) == 1
    write(tmp_path / "c.csv", [*rows, {"body": "x", "stars": 7}])
    assert "has the labels ['7']" in str(
        refused(f"text:{tmp_path}/a.csv?text=body&label=stars&test={tmp_path}/c.csv")
    )


def test_long_texts_and_strange_characters(tmp_path):
    rows = [
        {"text": 'naïve "quoted", ' + "x " * 100_000, "label": "a"},
        {"text": "Ω\nnew line", "label": "b"},
    ] * 5
    source = load(f"text:{write(tmp_path / 'a+b.csv', rows)}?length=4")
    assert source.train.x["input_ids"].shape == (8, 4)


@pytest.mark.parametrize(
    ("content", "query", "words"),
    [
        ("text,label\n", "", "has no rows"),
        ("body,label\nx,1\n", "", "has the columns ['body', 'label'], not 'text'"),
        ("text,label\nx,1\n", "?id=key", "not 'key'"),
        ('text,label\n"x,1\n', "", "cannot be read"),
        ("text,label\nx,1\n", "?text=", "text= has no value"),
        ("text,label\nx,1\n", "?length=0", "length=0 is not allowed; give a whole number of 1 or more"),
        ("text,label\nx,1\n", "?size=3", "no option of text"),
        ("text,label\nx,1\n", "?tokenizer=/nowhere", "has no tokenizer"),
        ("text,label\nx,1\n", "?test=/nowhere.csv", "cannot be read"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, content, query, words):
    (tmp_path / "t.csv").write_text(content)
    if "tokenizer" in query:
        pytest.importorskip("transformers", reason="transformers is not installed")
    assert words in str(refused(f"text:{tmp_path}/t.csv{query}"))


def test_one_error_lists_the_broken_rows(tmp_path):
    rows = [*ROWS, *[{"text": "", "label": "good", "id": "a"}, {"text": "x", "label": None, "id": "b"}] * 15]
    problems = refused(f"text:{write(tmp_path / 'a.jsonl', rows)}").problems
    assert (
        len(problems) == 21
        and "line 31 has no text (column 'text')" in problems[0]
        and "10 more problems" in problems[-1]
    )
    assert "is none of .csv" in str(refused(f"text:{tmp_path}/a.txt"))
    (tmp_path / "b.jsonl").write_text('{"text": "a", "label": 1}\n[1]\n')
    assert "line 2 is no object" in str(refused(f"text:{tmp_path}/b.jsonl"))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_labels_that_losses_ignore_are_no_class(tmp_path, ending):
    def text(labels, query="", name="t"):
        cells = [{"text": f"text {k}", "label": label} for k, label in enumerate(labels)]
        return f"text:{write(tmp_path / f'{name}.{ending}', cells)}{query}"

    # two lines are before the third row in a CSV, none in JSON lines
    place = {"csv": "line 4", "jsonl": "line 3", "parquet": "row 3"}[ending]
    problems = refused(text([0, 1, -100, 1, 0, -100] * 5)).problems
    assert f"{place} has the label -100 (column 'label'), by which losses ignore a sample" in problems[0]
    assert (
        "remove the row, or give the class a name such as 'minus 100'" in problems[0] and len(problems) == 10
    )
    # unlabelled among three classes, and in a test table alone
    assert f"{place} has the label -1 " in str(refused(text([0, 1, -1, 2] * 5)))
    write(tmp_path / "test.csv", [{"text": "a", "label": 1}, {"text": "b", "label": -100}])
    assert "line 3 has the label -100" in str(refused(text([0, 1] * 5, f"?test={tmp_path / 'test.csv'}")))
    # the control: a scale around 0 has negative classes, with a warning, also where a test table lacks one
    write(tmp_path / "test.csv", [{"text": "a", "label": 0}, {"text": "b", "label": -1}])
    with pytest.warns(UserWarning, match="the label '-1' .* is taken for a class; remove such rows"):
        assert load(text([-1, 0, 1] * 5, f"?test={tmp_path / 'test.csv'}")).classes == ["-1", "0", "1"]


def test_the_config_of_a_tokenizer_folder_orders_the_classes(tmp_path, folder):
    spec = f"text:{write(tmp_path / 'a.csv')}?tokenizer={folder}&length=8"
    source = load(spec)
    assert source.classes == ["odd", "good", "bad"] and not isinstance(source.train, StreamData)
    assert {
        source.classes[int(y)]
        for i, y in zip(source.train.ids, source.train.labels, strict=True)
        if "good" in i
    } == {"good"}
    numbered = [{**r, "label": ["odd", "good", "bad"].index(r["label"])} for r in ROWS]
    again = load(f"text:{write(tmp_path / 'b.csv', numbered)}?tokenizer={folder}&length=8")
    assert again.classes == source.classes and torch.equal(
        again.train.labels.sort()[0], source.train.labels.sort()[0]
    )
    others = [{**r, "label": f"x{r['label']}"} for r in ROWS]
    assert load(f"text:{write(tmp_path / 'c.csv', others)}?tokenizer={folder}").classes == [
        "xbad",
        "xgood",
        "xodd",
    ]


def test_number_labels_that_do_not_begin_at_0_are_names(tmp_path, folder):
    def read(labels, query=""):
        rows = [{"text": f"fine {k}", "label": labels[k % len(labels)], "id": k} for k in range(30)]
        source = load(f"text:{write(tmp_path / 'a.csv', rows)}{query}")
        if source.classes[0].isdigit():
            for data in (source.train, source.test):
                wanted = [labels[int(i) % len(labels)] for i in data.ids]
                assert [source.classes[y] for y in data.labels] == wanted
        return source.classes, sorted(set(source.train.labels.tolist()))

    assert read(["5", "1", "2", "10"]) == (["1", "2", "5", "10"], [0, 1, 2, 3])
    assert read(["2", "0", "1"]) == (["0", "1", "2"], [0, 1, 2])
    assert read(["1", "2"], f"?tokenizer={folder}&length=8") == (["odd", "good", "bad"], [1, 2])
    assert read(["1", "2", "3"], f"?tokenizer={folder}&length=8") == (["1", "2", "3"], [0, 1, 2])


def test_models_of_transformers_from_a_folder(folder, tmp_path):
    torch.manual_seed(1)  # not the seed of the folder's model
    fresh, kept = (
        build(f"hf-{start}:{folder}", num_classes=3, shape=(8,)) for start in ("config", "weights")
    )
    assert type(fresh) is type(kept) and fresh.config.id2label[0] == "odd"
    name = "bert.embeddings.word_embeddings.weight"
    import safetensors.torch

    there = safetensors.torch.load_file(folder / "model.safetensors")[name]
    assert torch.equal(kept.state_dict()[name], there) and not torch.equal(fresh.state_dict()[name], there)
    with pytest.raises(ModelError, match=r"describes 3 classes, but the data has 5"):
        build(f"hf-config:{folder}", num_classes=5, shape=(8,))
    with pytest.raises(ModelError, match=r"no config\.json"):
        build(f"hf-config:{tmp_path}", num_classes=3, shape=(8,))
    with pytest.raises(ModelError, match="holds no classifier"):
        build(f"hf-weights:{folder}", num_classes=3, shape=(3, 8, 8))  # BERT takes no images


def test_a_pretrained_head_of_another_size_is_made_anew_with_a_note(folder, tmp_path):
    from transformers import AutoModelForSequenceClassification

    own = AutoModelForSequenceClassification.from_pretrained(folder)
    with pytest.warns(UserWarning, match="the head in .* is for 3 classes, and the data has 5") as caught:
        model = build(f"hf-weights:{folder}", num_classes=5, shape=(8,))
    assert "classifier.bias, classifier.weight get initial parameters" in str(caught[0].message)
    assert model.classifier.weight.shape == (5, 16)
    body = own.bert.state_dict()
    assert all(torch.equal(v, body[k]) for k, v in model.bert.state_dict().items())
    # the control: a head of this size is taken, without a note
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = build(f"hf-weights:{folder}", num_classes=3, shape=(8,))
    assert torch.equal(same.classifier.weight, own.classifier.weight)
    # other parameters of another size would be lost
    own.save_pretrained(tmp_path / "odd")
    file = tmp_path / "odd" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "vocab_size": own.config.vocab_size + 1}))
    with pytest.raises(
        ModelError,
        match=r"1 parameters in .* have another size .*first: bert.embeddings.word_embeddings.weight",
    ):
        build(f"hf-weights:{tmp_path / 'odd'}", num_classes=5, shape=(8,))


def test_an_image_model_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.ViTConfig(
        image_size=8, patch_size=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=4,
        num_channels=1,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    model = build(f"hf-config:{tmp_path}", num_classes=4, shape=(1, 8, 8))
    assert model(torch.rand(2, 1, 8, 8)).logits.shape == (2, 4)


def test_a_fine_tuned_classifier_goes_in_and_comes_out(folder, tmp_path, capsys):
    """A user of transformers: a checkpoint from their folder, a table, and a person to forget."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    data = f"text:{write(tmp_path / 'a.csv')}?tokenizer={folder}&length=8"
    flags = ["--data", data, "--model", f"hf-config:{folder}"]
    out = tmp_path / "out" / "model.safetensors"
    assert main(["unlearn", "salun", *flags, "--checkpoint", str(folder / "model.safetensors"), "--validation", "0", "--epochs", "1",
                 "--forget-group", "user=u1", "--batch-size", "8", "--out", str(out)]) == 0  # fmt: skip
    notes = capsys.readouterr().err
    assert "forgets " in notes and "seen all 24 training and none of the 6 test samples" in notes
    for file in folder.glob("*.json"):
        (out.parent / file.name).write_bytes(file.read_bytes())
    model, loading = transformers.AutoModelForSequenceClassification.from_pretrained(
        out.parent, output_loading_info=True
    )
    assert not any(loading.values()) and model.config.id2label[0] == "odd"
    words = transformers.AutoTokenizer.from_pretrained(out.parent)(["fine number 1"], return_tensors="pt")
    assert model(**words).logits.isfinite().all()


def test_text_transformer_learns_a_table(tmp_path, capsys):
    data = ["--data", f"text:{write(tmp_path / 'a.csv')}?length=8", "--model", "text_transformer"]
    assert main(["train", *data, "--epochs", "8", "--lr", "0.003", "--optimizer", "adamw", "--batch-size", "8",
                 "--out", str(tmp_path / "o.safetensors")]) == 0  # fmt: skip
    assert "accuracy: 100.00 % of training samples" in capsys.readouterr().out


def longer(tmp_path, sizes):
    """A table of texts with these numbers of words."""
    rows = [{"text": " ".join(["ball"] * n), "label": "ab"[k % 2]} for k, n in enumerate(sizes)]
    return write(tmp_path / "long.csv", rows)


def told(spec):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(spec)
    return " ".join(str(w.message) for w in caught)


def test_texts_that_the_default_length_cuts_are_counted(tmp_path):
    # 128 words fit, 129 do not
    path = longer(tmp_path, [128, 3, 128, 129, 400, 4, 5, 6, 7, 8])
    assert "2 of 10 texts are cut at 128 tokens, the default; give length=N" in told(f"text:{path}")
    assert "are cut" not in told(f"text:{path}?length=128")
    assert "are cut" not in told(f"text:{longer(tmp_path, [128] * 10)}")


def test_a_tokenizer_counts_its_own_tokens(tmp_path, folder):
    source = load(f"text:{longer(tmp_path, [5] * 10)}?tokenizer={folder}&length=300")
    special = int((source.train.x["input_ids"][0] != 0).sum()) - 5
    path = longer(tmp_path, [128 - special, 129 - special, 3, 200, *[4] * 6])
    assert "2 of 10 texts are cut at 128 tokens" in told(f"text:{path}?tokenizer={folder}")
