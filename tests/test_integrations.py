"""Callbacks and hub folders with the libraries of the default tests: transformers, accelerate, huggingface_hub."""

import json
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from expunge import (
    Classification,
    ExpungeError,
    MaskError,
    Record,
    SalUn,
    Split,
    experiment,
    random_mask,
    saliency_mask,
)
from expunge.audit import evaluate
from expunge.cli import main
from expunge.integrations.held_mask import HeldMask
from expunge.integrations.hub_folder import preparation_files, write_hub_folder
from expunge.integrations.hub_folder_usage import code_module, inputs_text, own_usage
from expunge.integrations.model_card import CardFacts, card_text
from expunge.models import build
from expunge.receipts.issue import issue
from expunge.records.hashing import model_hash
from small_problem import vectors

TASK = Classification(3)
# ids and groups of samples, which leave no house
PERSON = "anna-smith"


def texts():
    torch.manual_seed(0)
    x, y = torch.randint(0, 50, (64, 8)), torch.arange(64) % 3
    return x, y, Split.by_class((x[:48], y[:48]), (x[48:], y[48:]), [1], validation=0)


def bert():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                     intermediate_size=16, max_position_embeddings=8, num_labels=3)  # fmt: skip
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(config)


def trained(model, x, y, folder, callback, attach=True, **options):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    settings = transformers.TrainingArguments(
        str(folder), num_train_epochs=2, per_device_train_batch_size=16, report_to=[], use_cpu=True,
        disable_tqdm=True, save_strategy="no", logging_strategy="no", **options)  # fmt: skip
    rows = [{"input_ids": a, "labels": b} for a, b in zip(x, y, strict=True)]
    trainer = transformers.Trainer(
        model, settings, train_dataset=rows, callbacks=None if attach else [callback]
    )
    if attach:
        callback.attach(trainer)
    trainer.train()
    return trainer


@pytest.mark.parametrize("optim", [pytest.param("adamw_torch", marks=pytest.mark.slow), "sgd"])
def test_the_callback_of_trainer_holds_a_mask(tmp_path, optim):
    from expunge.integrations.transformers import MaskCallback

    class Checked(MaskCallback):
        """Compares after each optimizer step."""

        steps = 0

        def on_optimizer_step(self, args, state, control, **given):
            self.steps += 1
            for name, parameter in given["model"].named_parameters():
                assert torch.equal(parameter[~mask[name]], before[name][~mask[name]]), name

    x, y, split = texts()
    model = bert()
    mask = saliency_mask(model, split.forget, TASK, 0.3)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    callback = Checked(mask, split, TASK)
    args = {"optim_args": "momentum=0.9"} if optim == "sgd" else {}
    trainer = trained(model, x, y, tmp_path, callback, optim=optim, weight_decay=0.1, learning_rate=1e-2,
                      max_grad_norm=0.5, **args)  # fmt: skip
    moved = sum(int((p.detach() != before[n]).sum()) for n, p in model.named_parameters())
    assert (
        callback.steps == 8 and 0 < moved <= mask.count and all(p.requires_grad for p in model.parameters())
    )
    assert [row["step"] for row in callback.history] == [0, 4, 8]
    logged = [row["forget"] for row in trainer.state.log_history if "forget" in row]
    assert logged == [row["forget"] for row in callback.history]
    # the control: without the mask they move
    plain = Checked(None, split, TASK)
    plain.on_optimizer_step = lambda *a, **k: None
    trained(model, x, y, tmp_path, plain, attach=False, optim=optim, weight_decay=0.1, learning_rate=1e-2)
    assert any((p.detach() != before[n])[~mask[n]].any() for n, p in model.named_parameters())
    assert len(plain.history) == 3


def test_the_norm_for_clipping_is_that_of_what_moves():
    """Two ways to zero the gradients of frozen elements before a clip."""
    model, split, task = vectors()
    mask = saliency_mask(model, split.forget, task, 0.3)
    batch = next(split.forget.batches(16))
    norms = []
    for way in ("mask_gradients", "mask_gradients_as_they_come"):
        held = HeldMask(mask, split, task, 100, 16)
        held.hold([torch.optim.SGD(model.parameters(), 0.1)], model, several=False)
        if way == "mask_gradients_as_they_come":
            held.mask_gradients_as_they_come()
        model.zero_grad()
        task.loss(model, batch).mean().backward()
        if way == "mask_gradients":
            held.mask_gradients()
        assert all(not p.grad[~mask[n]].any() for n, p in model.named_parameters() if p.grad is not None)
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), 1e9)))
        held.release()
    model.zero_grad()
    task.loss(model, batch).mean().backward()
    assert (
        norms[0] == pytest.approx(norms[1])
        and float(nn.utils.clip_grad_norm_(model.parameters(), 1e9)) > norms[0]
    )


def test_parameters_without_gradients_do_not_stop_a_clip():
    """Layers that the user froze, or that peft froze, in a mask that covers them partly."""
    model, split, task = vectors()
    first = next(model.parameters()).requires_grad_(False)
    mask = {n: torch.arange(p.numel()).reshape(p.shape) % 2 == 0 for n, p in model.named_parameters()}
    held = HeldMask(mask, split, task, 100, 16)
    held.hold([torch.optim.SGD(model.parameters(), 0.1)], model, several=False)
    held.mask_gradients_as_they_come()
    batch = next(split.forget.batches(16))
    task.loss(model, batch).mean().backward()
    assert first.grad is None and not first.requires_grad
    first.requires_grad_(True)
    task.loss(model, batch).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad[mask[name]].any() and not parameter.grad[~mask[name]].any(), name
    held.release()
    task.loss(model, batch).mean().backward()
    assert all(p.grad[~mask[n]].any() for n, p in model.named_parameters())


def test_an_average_of_the_parameters_has_the_frozen_values():
    """EMAWeightAveraging of Lightning: 0.999 x + (1 - 0.999) x is not always x."""
    from torch.optim.swa_utils import AveragedModel

    torch.manual_seed(0)
    model = nn.Linear(64, 64)
    mask = random_mask(model, 0.3)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for holds in (True, False):
        average = AveragedModel(model, avg_fn=lambda mean, new, _: 0.999 * mean + (1 - 0.999) * new)
        held = HeldMask(mask, None, None, 1, 1)
        held.hold([torch.optim.SGD(model.parameters(), 0.1)], model, several=False)
        held.hold_in_averages([average] * holds, model)
        for _ in range(20):
            average.update_parameters(model)
        held.release()
        equal = [torch.equal(p[~mask[n]], before[n][~mask[n]]) for n, p in average.module.named_parameters()]
        assert all(equal) == holds and "update_parameters" not in vars(average)


def test_figures_are_those_of_the_sets_and_change_nothing():
    model, split, task = vectors()
    held = HeldMask(None, split, task, samples=7, batch_size=3)
    assert {name: len(samples) for name, samples in held.sets.items()} == {"forget": 7, "retain": 7}
    model.train()
    state = torch.get_rng_state()
    whole = HeldMask(None, split, task, 10_000, 16).figures(model)
    assert whole["forget"] == pytest.approx(100 - evaluate(model, split, task).scores["UA"])
    assert model.training and torch.equal(torch.get_rng_state(), state)
    for wrong in ((None, None, None), (None, split, None), (None, None, task)):
        with pytest.raises(ExpungeError, match="give"):
            HeldMask(*wrong, 10, 10)
    other = {"nothing": torch.ones(2, dtype=torch.bool)}
    with pytest.raises(MaskError, match="make it from this model"):
        HeldMask(other, None, None, 10, 10).hold(
            [torch.optim.SGD(model.parameters(), 0.1)], model, several=False
        )


def test_a_missing_library_is_named_when_a_callback_is_made(monkeypatch):
    from expunge.integrations import lightning, transformers

    for module, base, extra in (
        (lightning, "Callback", "lightning"),
        (transformers, "TrainerCallback", "text"),
    ):
        monkeypatch.setattr(module, base, object)
        with pytest.raises(ExpungeError, match=rf"expunge\[{extra}\]"):
            module.MaskCallback({"w": torch.ones(1, dtype=torch.bool)})


def test_the_callback_of_lightning_counts_finished_epochs(monkeypatch):
    """As Lightning calls it: `current_epoch` is that of the running epoch until its hooks are done."""
    from expunge.integrations import lightning

    monkeypatch.setattr(lightning, "Callback", type)
    split = vectors().split
    callback = lightning.MaskCallback(None, split, TASK)
    module = SimpleNamespace(log_dict=lambda figures: None)
    monkeypatch.setattr(callback.held, "hold", lambda *_, **__: None)
    monkeypatch.setattr(callback.held, "figures", lambda _: {"forget": 1.0, "retain": 2.0})
    trainer = SimpleNamespace(optimizers=[], world_size=1, callbacks=[], current_epoch=0, global_step=0)
    callback.on_train_start(trainer, module)
    for trainer.current_epoch in range(3):
        trainer.global_step += 5
        callback.on_train_epoch_end(trainer, module)
    assert [row["epoch"] for row in callback.history] == [0, 1, 2, 3]
    assert [row["step"] for row in callback.history] == [0, 5, 10, 15]


@pytest.fixture(scope="module")
def unlearned():
    model, (_, _, split) = bert(), texts()
    names = {"model": "hf-config:bert", "data": "texts", "classes": ["cat", "dog", "owl"]}
    return experiment(model, split, SalUn(epochs=2, lr=0.05, batch_size=8), TASK, names=names)


def test_a_hub_folder_loads_with_transformers(unlearned, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    base = tmp_path / "base"
    unlearned.model.save_pretrained(base)
    for name in ("tokenizer_config.json", "un.requests.json", "training_args.bin", "notes.txt"):
        (base / name).write_text("{}", encoding="utf-8")
    out = write_hub_folder(
        tmp_path / "out", unlearned.model, spec=f"hf-config:{base}", record=unlearned.record
    )
    assert {f.name for f in out.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer_config.json",
    }
    again = transformers.AutoModelForSequenceClassification.from_pretrained(out)
    x = texts()[0]
    assert torch.equal(TASK.logits(again.eval(), x), TASK.logits(unlearned.model.eval(), x))
    assert again.config.id2label == {0: "cat", 1: "dog", 2: "owl"}
    assert unlearned.model.config.id2label[0] == "LABEL_0", "the model of the user stays as it was"

    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    card = hub.ModelCard.load(out / "README.md")
    assert card.data.library_name == "transformers" and card.data.pipeline_tag == "text-classification"
    assert {"machine-unlearning", "expunge"} <= set(card.data.tags)
    for words in ("16 training samples: all of the class dog", "Method: salun", "| UA |", "No retrained model was given",
                  "do not prove", "No receipt was issued"):  # fmt: skip
        assert words in card.text, words
    with pytest.raises(ExpungeError, match="exists"):
        write_hub_folder(out, unlearned.model)


def test_a_record_or_receipt_of_another_model_is_refused(unlearned, tmp_path):
    other = bert()
    with pytest.raises(ExpungeError, match="the record describes another model"):
        write_hub_folder(tmp_path / "out", other, record=unlearned.record)
    assert not (tmp_path / "out").exists()


def test_the_card_without_the_library_is_the_same(monkeypatch, unlearned):
    yaml = pytest.importorskip("yaml")
    facts = CardFacts(title="t", library="expunge", usage="pass", record=unlearned.record, tags=("a: b",))
    full = card_text(facts)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    bare = card_text(facts)
    heads = [yaml.safe_load(text.split("---")[1]) for text in (full, bare)]
    assert heads[0] == heads[1] and heads[0]["tags"][-1] == "a: b"
    assert full.split("---\n", 2)[2].strip() == bare.split("---\n", 2)[2].strip()
    assert "not known" in card_text(CardFacts(title="t", library="expunge", usage="pass"))


VERDICT = {
    "words": ["under-forgotten"],
    "sentences": ["It still knows them."],
    "limits": ["Only these attacks."],
}


def record_with(method="salun", verdict=None, **scores):
    details = {} if verdict is None else {"verdict": verdict}
    return Record("unlearn", method, scores=scores, details=details, created="", machine={})


@pytest.mark.parametrize(("score", "text"), [(93.51, "\N{MINUS SIGN}6.1"), (100.0, "+0.4")])
def test_a_gap_in_the_card_is_the_model_minus_retrain(score, text):
    """A loss against Retrain is no gain."""
    scores = {"RA": score, "gap": {"RA": abs(score - 99.64), "avg": abs(score - 99.64)}}
    figures = {"figures": {"RA": {"value": score, "retrained": 99.64}}}
    base = {"title": "t", "library": "expunge", "usage": "pass"}
    card = card_text(CardFacts(**base, record=record_with(verdict=VERDICT | figures, **scores)))
    assert f"| RA | {score:.1f} | {text} |" in card and "| gap to Retrain |" in card
    # without Retrain's score only the size of the gap is known
    card = card_text(CardFacts(**base, record=record_with(**scores)))
    assert f"| RA | {score:.1f} | {text[1:]} |" in card and "size of the gap to Retrain" in card
    assert "There is no verdict" in card


def test_a_card_has_the_method_of_the_run_and_both_verdicts():
    base = {"title": "t", "library": "expunge", "usage": "pass"}
    run = record_with(verdict={"words": ["unknown"], "limits": ["Of the run."]}, UA=3.0)
    audit = record_with("unknown", VERDICT, UA=4.0)
    card = card_text(CardFacts(**base, record=run, audit=audit))
    for words in ("Method: salun", "| UA | 4.0 |", "Verdict: under-forgotten. It still knows them.", "Verdict: unknown.",
                  "- Only these attacks.", "- Of the run.", "changed this model by machine unlearning"):  # fmt: skip
        assert words in card, words
    assert "There is no verdict" not in card
    # scores with a reference say more than scores without one
    run = record_with(UA=3.0, gap={"UA": 1.0, "avg": 1.0})
    card = card_text(CardFacts(**base, record=run, audit=audit))
    assert "| UA | 3.0 | 1.0 |" in card and "Verdict: under-forgotten" in card


def test_the_code_of_a_card_runs(tmp_path, monkeypatch):
    """The card of an own model names the classes, the shape, the preparation, and where the module lies."""
    source = (
        "from torch import nn\n\ndef net(num_classes, shape):\n    return nn.Linear(shape[0], num_classes)\n"
    )
    model = nn.Linear(4, 2)
    record = record_with()
    record.data["classes"], record.model["hash_after"] = ["cat", "d\u00f6g"], model_hash(model)
    data = "folder:private?size=40&crop=32&mean=0.5,0.4,0.3&std=0.2,0.2,0.2"
    write_hub_folder(tmp_path / "push", model, spec="net_of_card:net", record=record, shape=(4,), data=data)
    (tmp_path / "push" / "net_of_card.py").write_text(source, encoding="utf-8")
    card = (tmp_path / "push" / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    names = {}
    exec(card.split("```python\n")[1].split("```")[0], names)
    assert names["CLASSES"] == ["cat", "d\u00f6g"] and names["SHAPE"] == (4,)
    assert torch.equal(names["model"].weight, model.weight) and not names["model"].training
    assert "mean 0.5, 0.4, 0.3, std 0.2, 0.2, 0.2" in card and "private" not in card
    text = inputs_text((3, 32, 32), data)
    assert "resized to 40 on the short side and cut to the middle 32 x 32 (bicubic)" in text
    assert inputs_text((), "") == "" and code_module("mlp") == code_module("timm:vit") == ""
    assert 'build("mlp"' in own_usage("a", "mlp", [], ()) and "fill in" in own_usage("a", "", [], ())


def test_the_command_writes_a_folder_without_private_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [f"{PERSON}-{k},word{k % 3} n{k},{'xyz'[k % 3]},{PERSON} {k // 10}" for k in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["id,text,label,person", *rows]) + "\n", encoding="utf-8")
    data = ["--data", "text:t.csv?length=4", "--model", "text_transformer"]
    quick = ["--epochs", "1", "--batch-size", "16"]
    assert main(["train", *data, "--out", "o.safetensors", "--validation", "0", *quick]) == 0
    forget = ["--forget-group", f"person={PERSON} 2", "--validation", "0"]
    run = ["unlearn", "salun", *data, "--checkpoint", "o.safetensors", *forget, "--trials", "0", *quick]
    assert main([*run, "--out", "u.safetensors"]) in (0, 1)
    audit = ["audit", *data, "--checkpoint", "u.safetensors", "--original", "o.safetensors", *forget]
    assert main([*audit, "--out", "audit.json"]) in (0, 1)
    private = (tmp_path / "u.requests.json").read_text(encoding="utf-8")
    assert PERSON in private, "the control: there is a private file with names"
    command = [
        "hub-folder",
        "u.safetensors",
        *data,
        "--out",
        "push",
        "--record",
        "audit.json",
        "--title",
        "Mine",
    ]
    assert main(command) == 0, capsys.readouterr().err
    assert {f.name for f in (tmp_path / "push").iterdir()} == {"README.md", "model.safetensors"}
    for file in (tmp_path / "push").iterdir():
        assert PERSON.encode() not in file.read_bytes(), file.name
    card = (tmp_path / "push" / "README.md").read_text(encoding="utf-8")
    assert "Method: salun" in card, "the record of the run beside the checkpoint is read too"
    assert (
        'build("text_transformer", num_classes=len(CLASSES), shape=SHAPE)' in card and "SHAPE = (4,)" in card
    )
    receipt = json.loads((tmp_path / "u.receipt.json").read_text(encoding="utf-8"))["id"]
    assert "# Mine" in card and receipt in card and "Verdict: " in card
    assert "training samples of one group, such as a person" in card

    from safetensors.torch import load_model

    model = build("text_transformer", num_classes=3, shape=(4,), **{})
    load_model(model, tmp_path / "push" / "model.safetensors")
    assert main(["hub-folder", "o.safetensors", *data, "--out", "no"]) == 2
    assert "give an unlearned model" in capsys.readouterr().err
    shutil.copyfile("u.safetensors", "bare.safetensors")
    assert main(["hub-folder", "bare.safetensors", *data, "--out", "no"]) == 2
    assert "nothing shows that it was unlearned" in capsys.readouterr().err
    assert main(["hub-folder", "u.safetensors", *data, "--out", "push"]) == 2
    assert "push exists; give a new folder" in capsys.readouterr().err
    capsys.readouterr()
    assert main(["hub-folder", "u.safetensors", *data, "--out", "run"]) == 0
    assert "the card has no verdict; run `expunge audit`" in capsys.readouterr().err
    record = Record.load("u.json")
    record.model["hash_after"] = "0" * 64
    record.save("wrong.json")
    shutil.copyfile("u.safetensors", "wrong.safetensors")
    stale = ["hub-folder", "wrong.safetensors", *data, "--out", "stale", "--record", "audit.json"]
    assert main(stale) == 0
    assert "wrong.json is left out of the card: it describes another model" in capsys.readouterr().err
    assert main(["hub-folder", "u.safetensors", *data, "--out", "no", "--record", "wrong.json"]) == 2
    assert "another model" in capsys.readouterr().err and not (tmp_path / "no").exists()


@pytest.mark.parametrize("family", ["ViT", "Swin"])
def test_a_receipt_of_a_file_with_the_names_of_transformers_belongs_to_the_model(tmp_path, family):
    """save_pretrained names the tensors of many image models otherwise than the model does."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    small = {
        "ViT": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "image_size": 8,
                "patch_size": 4},
        "Swin": {"image_size": 8, "patch_size": 2, "embed_dim": 4, "depths": [1], "num_heads": [1], "window_size": 2},
    }  # fmt: skip
    config = getattr(transformers, f"{family}Config")(**small[family], num_labels=3)
    models = [getattr(transformers, f"{family}ForImageClassification")(config) for _ in range(2)]
    for name, model in zip(("before", "after"), models, strict=True):
        model.save_pretrained(tmp_path / name)
    files = [tmp_path / name / "model.safetensors" for name in ("before", "after")]
    run = Record("unlearn", "salun", model={"hash_after": model_hash(models[1])}, created="", machine={})
    receipt, _ = issue(run, before=files[0], after=files[1])
    out = write_hub_folder(tmp_path / "out", models[1], record=run, receipt=receipt)
    assert receipt.id in (out / "README.md").read_text(encoding="utf-8")
    with pytest.raises(ExpungeError, match="the receipt is about another model"):
        write_hub_folder(tmp_path / "no", models[0], receipt=receipt)
    # names that no library explains: the hash of the file decides
    other, _ = issue(run, before=files[0], after={"x": torch.ones(1)})
    with pytest.raises(ExpungeError, match="the receipt is about another model"):
        write_hub_folder(tmp_path / "no", models[1], receipt=other)
    assert write_hub_folder(
        tmp_path / "third", models[1], receipt=other, file_hash=model_hash({"x": torch.ones(1)})
    )


def test_only_files_that_transformers_writes_are_copied(tmp_path):
    private = [
        "vocab_of_patients.csv",
        "tokenizer_training_texts.txt",
        "merges.bak~",
        "vocab.txt.old",
        "notes",
    ]
    public = ["vocab.txt", "tokenizer.json", "preprocessor_config.json"]
    for name in (*private, *public, "config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    copied, left = preparation_files(f"hf-weights:{tmp_path}")
    assert {f.name for f in copied} == set(public) and {f.name for f in left} == set(private)
    assert preparation_files("mlp") == ([], [])


def test_a_card_claims_unlearning_only_with_a_record_or_receipt(tmp_path):
    base = {"title": 'a "name"\n# with lines', "library": "expunge", "usage": "pass"}
    run = Record("unlearn", "salun", created="", machine={})
    audited = Record("unlearn", "unknown", created="", machine={})
    for record, claims in ((run, True), (audited, False), (None, False)):
        card = card_text(CardFacts(**base, record=record))
        assert (
            "changed this model by machine unlearning" in card.split("##")[0] and "No record" not in card
        ) == claims
        assert (
            "machine-unlearning" in card.split("---")[1]
        ) == claims and '# a "name" # with lines\n' in card
    assert "No record or receipt shows" in card_text(CardFacts(**base))
    out = write_hub_folder(tmp_path / 'a"b', nn.Linear(2, 2))
    assert 'load_model(model, "a\\"b/model.safetensors")' in (out / "README.md").read_text(encoding="utf-8")
