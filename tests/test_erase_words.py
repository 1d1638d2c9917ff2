"""What an erasure is asked for: several concepts, wrong templates, broken images, ESD without images, progress."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

import tiny_pipelines as tiny
from expunge.audit.recovery_attacks import RecoveryAttack
from expunge.errors import ExpungeError
from expunge.generation import erase as erasing
from expunge.generation import erase_setup
from expunge.generation.before_after import grids
from expunge.generation.concepts import Erasure, template_is_wrong
from expunge.generation.erase import erase
from expunge.generation.erase_presets import STEPS, settings, weights_for
from expunge.generation.erase_setup import latents_file
from expunge.generation.erasure_audit import audit_erasure
from expunge.generation.latents_file import LatentsFile
from expunge.generation.options import EraseOptions
from expunge.generation.pipelines import load
from expunge.generation.prompted import Prompted
from expunge.generation.training_images import image_files
from expunge.tasks.sampling import Sampler

FEW = Sampler(steps=1, guidance=2.0, batch_size=3)
WHAT = Erasure(concept="dress", anchor="coat")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("words")
    return tiny.save(tiny.stable_diffusion(place), place / "unet")


@pytest.fixture
def no_pictures(monkeypatch):
    """Sample no pictures of before and after."""
    monkeypatch.setattr(erasing, "grids", lambda *_, **__: iter(()))


def small(name, **more):
    return settings(name, **{"epochs": 1, "lr": 1e-3, "batch_size": 4, **more})


# ---- several concepts


def test_several_concepts_have_their_anchors_side_by_side():
    two = Erasure(
        concept=("dress", "bag"), anchor=("coat", "boot"), keep=("shirt",), templates=("a {}", "the {}")
    )
    assert two.prompts() == [
        "a dress", "a coat", "a bag", "a boot", "the dress", "the coat", "the bag", "the boot", "a shirt", "the shirt",
    ]  # fmt: skip
    assert (
        two.concepts() == [0, 2, 4, 6]
        and two.conditions("bag") == [2, 6]
        and two.concepts(plain=True) == [0, 2]
    )
    assert Erasure(concept=("dress", "bag"), anchor="coat").prompts(plain=True) == [
        "dress",
        "coat",
        "bag",
        "coat",
    ]
    assert Erasure(concept="dress").prompts() == ["a photo of a dress", ""]
    for wrong, words in (
        (Erasure(concept=("a", "b"), anchor=("c", "d", "e")), "3 anchors for 2 concepts"),
        (Erasure(concept=("a", "a"), anchor="b"), "repeat a concept"),
        (Erasure(concept=("a", "b"), anchor=("c", "a")), "'a' is the concept and also the anchor"),
        (Erasure(concept=("a", " "), anchor="c"), "the concept is empty"),
        (Erasure(concept=(), anchor="c"), "the concept is empty"),
    ):
        assert words in " ".join(wrong.problems())


def test_the_command_erases_every_concept_that_is_given(folder, tmp_path, capsys):
    from expunge.cli import main

    command = ["erase", "salun", str(folder), "--concept", "dress", "--concept", "bag", "--anchor", "coat",
               "--per-prompt", "3", "--sample-steps", "1", "--batch-size", "4", "--steps", "2", "--out", str(tmp_path / "out"),
               "--judge", "tiny_pipelines:judge", "--judge-class", "dress=0", "bag=2", "coat=1", "--judge-count", "2",
               "--report", str(tmp_path / "report.html")]  # fmt: skip
    assert main(command) == 0
    record = json.loads((tmp_path / "out/expunge.json").read_text())
    assert record["details"]["erasure"]["concept"] == ["dress", "bag"]
    assert record["details"]["erasure"]["anchor"] == ["coat", "coat"]
    assert record["split"]["forget"] == [0, 2] and {"dress", "bag", "coat"} <= set(
        record["details"]["prompts"]
    )
    shares = record["details"]["prompts"]
    assert record["scores"]["UA"] == 100 - (shares["dress"]["after"] + shares["bag"]["after"]) / 2
    said = capsys.readouterr().err
    assert "training images: 12 of 12" in said and "pictures: 2 of 2" in said
    shown = (tmp_path / "report.html").read_text()
    assert "“dress” and “bag”, moved to “coat” by SalUn." in shown
    assert "Concept: “dress” and “bag”. Anchor: “coat”." in shown
    assert "retrain" not in shown.split("<body>")[1].split("<pre")[0].lower()
    # the pictures stand before the first table, as wide as the page
    assert shown.index('<div class="opening">') < shown.index("<table") and shown.count("<img") == 2
    assert ".opening img { display: block; width: 100%" in shown
    command[command.index("--out") + 1] = str(tmp_path / "no")
    assert main([*command, "--anchor", "boot", "--anchor", "shirt"]) == 2
    assert main([*command, "--safe"]) == 2
    assert "steers away from one concept" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_each_concept_moves_to_its_own_anchor(folder):
    two = Erasure(concept=("dress", "bag"), anchor=("coat", "boot"))
    method = small("random_label", epochs=25, lr=3e-4, retain_weight=0.0)
    done = erase(folder, two, method, EraseOptions(per_prompt=2, sampler=FEW))
    x, t = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.full((4,), 500)

    def distance(model, one, other):
        with torch.no_grad():
            return (model(x, t, torch.full((4,), one)) - model(x, t, torch.full((4,), other))).norm().item()

    for concept, anchor in ((0, 1), (2, 3)):
        assert distance(done.model, concept, anchor) < 0.9 * distance(done.original, concept, anchor)
    with pytest.raises(ExpungeError, match="concept ablation has one anchor, and 2 are given"):
        erase(folder, two, small("concept_ablation"), EraseOptions(per_prompt=2, sampler=FEW))


def test_a_prompt_of_several_concepts_has_one_row_of_pictures():
    drawn = []

    def draw(model, task, conditions, shape, seed):
        drawn.append(conditions.tolist())
        return torch.zeros(len(conditions), 3, 4, 4)

    loaded = SimpleNamespace(shape=(3, 4, 4), decode=lambda x, _: x, offload=lambda: None)
    what = Erasure(concept=("dress", "bag"), anchor="coat", templates=("{}",))
    erased = SimpleNamespace(run=SimpleNamespace(task=None), prompts=what.prompts(), record=SimpleNamespace(method="esd"),
                             original=None, model=None, loaded=loaded)  # fmt: skip
    draw.batch_size = 4
    notes = [grid["note"] for grid in grids(erased, draw, count=2)]
    assert notes == ["rows: “dress”, “coat”, “bag”"] * 2
    assert drawn == [[0, 0, 1, 1, 2, 2]] * 2, "the second coat, condition 3, is not drawn again"


# ---- templates and images


@pytest.mark.parametrize("template", ["a {style} of a {}", "a {} {}", "a", "{0}", "a {{}}", "{} }", "{:>9}"])
def test_templates_with_other_braces_are_refused(template):
    assert template_is_wrong(template)
    with pytest.raises(ExpungeError, match="no other brace"):
        erase("nowhere", Erasure(concept="dress", anchor="coat", templates=(template,)), settings("esd"))


def test_one_text_is_one_concept_and_other_values_are_refused():
    one = Erasure(concept="dress", keep="bag", templates="a {}")
    assert one.keep == ("bag",) and one.prompts() == ["a dress", "", "a bag"]
    assert Erasure(concept=["dress", "bag"], keep=["coat"]).words == ("dress", "bag")
    with pytest.raises(ExpungeError) as error:
        Erasure(concept=None, anchor=3, keep=("bag", None))
    assert [p.split(" is ")[0] for p in error.value.problems] == ["concept", "anchor", "keep"]
    with pytest.raises(ExpungeError, match=r"'dr\\udcffess' has characters that no text can have"):
        Erasure(concept="dr\udcffess").check()


def test_words_with_braces_stay_as_they_are():
    assert Erasure(concept="a {b}", anchor="{}").prompts() == ["a photo of a a {b}", "a photo of a {}"]


def test_broken_images_are_named_and_hidden_ones_are_left_out(folder, tmp_path):
    from PIL import Image

    for word in ("dress", "coat"):
        (tmp_path / word / "more").mkdir(parents=True)
        Image.new("RGB", (30, 20), "red").save(tmp_path / word / "0.jpg")
        Image.new("RGB", (30, 20), "red").save(tmp_path / word / "more/1.webp")
        (tmp_path / word / "._0.jpg").write_bytes(b"macOS")
        (tmp_path / word / ".ipynb_checkpoints").mkdir()
        (tmp_path / word / "d.png").mkdir()
        (tmp_path / word / "notes.txt").write_text("x")
    with pytest.warns(UserWarning, match=r"2 \*\.txt"):
        found = image_files(tmp_path, WHAT)
    assert [f.name for f in found["dress"]] == ["0.jpg", "1.webp"]
    image = tmp_path / "dress/2.jpg"
    Image.effect_noise((64, 64), 50).save(image)
    image.write_bytes(image.read_bytes()[:-900])
    (tmp_path / "coat/3.png").write_bytes(b"no image")
    (tmp_path / "coat/4.png").symlink_to("gone.png")
    with pytest.warns(UserWarning), pytest.raises(ExpungeError) as error:
        erase(folder, WHAT, settings("esd"), EraseOptions(images=tmp_path))
    problems = error.value.problems
    assert len(problems) == 3 and all("cannot be read as an image" in p for p in problems)
    assert [
        name in p for name, p in zip(("coat/3.png", "coat/4.png", "dress/2.jpg"), problems, strict=True)
    ] == [True] * 3


def test_images_belong_to_the_innermost_concept_and_unused_ones_are_told(tmp_path):
    from PIL import Image

    for name in ("dress/0", "dress/red/1", "coat/2", "tench/3", "tench/4", "loose"):
        (tmp_path / f"{name}.png").parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    with pytest.warns(UserWarning, match=r"3 images are not used, .*: 1 in the folder itself, 2 in tench\."):
        found = image_files(tmp_path, Erasure(concept="dress", anchor="coat", keep="dress/red"))
    assert {word: [f.name for f in files] for word, files in found.items()} == {
        "dress": ["0.png"], "coat": ["2.png"], "dress/red": ["1.png"],
    }  # fmt: skip
    with pytest.warns(UserWarning, match="2 in tench"), pytest.raises(ExpungeError, match="'hat' there"):
        image_files(tmp_path, Erasure(concept="dress", keep="hat"))


# ---- ESD as its authors ship it


@pytest.fixture
def calls(monkeypatch):
    """The number of images in each call of the denoiser. A pass with guidance counts twice."""
    counted: list[int] = []
    forward = Prompted.forward

    def count(self, x, t, y):
        counted.append(len(x))
        return forward(self, x, t, y)

    monkeypatch.setattr(Prompted, "forward", count)
    return counted


def test_esd_draws_no_images_and_calls_the_denoiser_as_often_as_its_authors(folder, calls, monkeypatch):
    monkeypatch.setattr(erasing, "grids", lambda *_, **__: iter(()))
    method, rows = settings("esd"), []
    assert (method.batch_size, method.sample_steps, method.guidance, method.lr) == (1, 50, 2.0, 5e-5)
    assert STEPS["esd"] == 200 and weights_for("esd", "unet") == "cross_attention"
    assert weights_for("esd", "dit") == weights_for("salun", "unet") == "full"
    monkeypatch.setattr(type(method), "_noisy", counted_stops(type(method)._noisy, stops := []))
    done = erase(folder, WHAT, method, EraseOptions(steps=2, weights="cross_attention"), on_row=rows.append)
    assert done.run.step == 2 and len(stops) == 2
    trained = [n for n, p in done.model.named_parameters() if p.requires_grad]
    assert trained and all(".attn2." in n for n in trained)
    # the checks of the model before the first step, and one look at a condition for each row of the curve
    around = sum(calls) - sum(2 * stop + 3 for stop in stops)
    assert around < 30
    # 24.5 steps on average, twice for guidance, and three predictions: about 10,000 in all
    assert STEPS["esd"] * (2 * (method.sample_steps - 1) / 2 + 3) == 10_400
    assert done.record.data["name"] == "no images" and all(row["forget"] is None for row in rows)
    assert all(row["forget"] is None for row in done.record.curves) and done.run.split.sizes["retain"] == 0


def counted_stops(noisy, stops):
    """Note at which step the sampler of each ESD step stops."""

    def wrapped(self, run, task, forget):
        state = run.generator("esd").get_state()
        stops.append(int(torch.randint(0, self.sample_steps, (), generator=run.generator("esd"))))
        run.generator("esd").set_state(state)
        return noisy(self, run, task, forget)

    return wrapped


@pytest.mark.usefixtures("no_pictures")
def test_esd_with_a_mask_or_noised_images_gets_images(folder, monkeypatch):
    monkeypatch.setattr(erase_setup, "PER_PROMPT", 2)
    for more in ({"density": 0.5}, {"source": "data"}):
        done = erase(folder, WHAT, small("esd", sample_steps=2, **more), EraseOptions(sampler=FEW))
        assert done.record.data["name"] == "drawn by the pipeline" and done.run.split.sizes["forget"] == 2


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.slow
def test_an_erasure_without_images_is_audited(folder):
    done = erase(folder, WHAT, small("esd", sample_steps=2), EraseOptions(sampler=FEW))
    attack = RecoveryAttack(steps=1, every=1, batch_size=2, count=2, sampler=FEW)
    result = audit_erasure(done, tiny.judge(), {"dress": 0, "coat": 1}, count=2, sampler=FEW, attack=attack)
    assert result.scores["UA"] is not None and "FID_judge" not in result.scores
    assert set(result.details["attacks"]) == {"learned_condition", "relearning"}
    with pytest.raises(ExpungeError, match=r"write \{\} twice"):
        audit_erasure(done, tiny.judge(), {"dress": 0, "coat": 1}, together="{} and {x}")


# ---- what an interruption leaves


@pytest.mark.usefixtures("no_pictures")
def test_latents_are_kept_as_they_are_drawn_and_the_rest_is_drawn_alone(folder, tmp_path, calls):
    options, state = EraseOptions(per_prompt=4, sampler=FEW), tmp_path / ".out.state"
    told = []

    def stop(what, done, total):
        told.append((what, done, total))
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        erase(folder, WHAT, small("random_label"), options, state_file=state, on_progress=stop)
    assert told == [("training images", 3, 8), ("training images", 6, 8)]
    kept = latents_file(state).read_bytes()
    assert kept.count(b'"start"') == 2
    # killed while the second batch was written
    latents_file(state).write_bytes(kept[:-5])
    told.clear()
    again = erase(
        folder, WHAT, small("random_label"), options, state_file=state, on_progress=lambda *a: told.append(a)
    )
    assert told[0] == ("training images", 6, 8)
    whole = erase(folder, WHAT, small("random_label"), options)
    assert torch.equal(again.run.split.forget.data.x, whole.run.split.forget.data.x)


def test_latents_are_appended_and_only_whole_batches_are_read(tmp_path):
    path, values = tmp_path / "latents", torch.randn(5, 2, 3)
    kept = LatentsFile(path, "one")
    lengths = []
    assert kept.data is None and len(kept.latents) == 0
    for start in (0, 2, 4):
        kept.add(start, values[start : start + 2])
        lengths.append(path.stat().st_size)
    whole = path.read_bytes()
    for length in (*range(0, len(whole), 7), *lengths, *(n - 1 for n in lengths)):
        path.write_bytes(whole[:length])
        read = LatentsFile(path, "one")
        count = sum(length >= end for end in lengths)
        assert read.data is None and torch.equal(
            read.latents, values[: 2 * count] if count else torch.empty(0)
        )
    # a batch of another process, and one with a changed bit
    entry = whole[lengths[1] :]
    for tail in (whole[lengths[0] : lengths[1]], entry[:-1] + bytes([entry[-1] ^ 1])):
        path.write_bytes(whole[: lengths[1]] + tail)
        read = LatentsFile(path, "one")
        assert len(read.latents) == 4
    read.add(4, values[4:])
    assert path.read_bytes() == whole
    read.finish([0, 1, 2, 3, 4], "drawn")
    again = LatentsFile(path, "one").data
    assert torch.equal(again.x, values) and again.labels.tolist() == [0, 1, 2, 3, 4] and again.name == "drawn"
    with pytest.raises(ExpungeError, match="latents of another call"):
        LatentsFile(path, "other")
    read.add(0, values[:1])
    assert torch.equal(LatentsFile(path, "one").latents, values[:1])
    path.unlink()
    path.mkdir()
    with pytest.raises(ExpungeError, match="is a folder"):
        read.add(1, values[:1])


def test_pictures_that_are_drawn_stay_in_the_record(folder, tmp_path):
    def stop(what, done, total):
        if what == "pictures":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        options = EraseOptions(per_prompt=2, sampler=FEW)
        erase(folder, WHAT, small("random_label"), options, out=tmp_path / "out", on_progress=stop)
    assert json.loads((tmp_path / "out/expunge.json").read_text())["method"] == "random_label"


KILLED = """
import os, signal, sys
from expunge.records.atomic_files import atomic
from pathlib import Path
with atomic(Path(sys.argv[1]), folder=True) as part:
    (part / "unet").mkdir()
    (part / "unet" / "half.safetensors").write_bytes(b"x" * 100)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.usefixtures("no_pictures")
def test_no_part_of_a_killed_run_stays(folder, tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "out")], env={**os.environ}, check=False
    )
    assert ended.returncode == -signal.SIGKILL and [p for p in tmp_path.iterdir() if "part" in p.name]
    erase(folder, WHAT, small("random_label"), EraseOptions(per_prompt=2, sampler=FEW), out=tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert load(tmp_path / "out").kind == "unet"
