"""Marked secrets go through real commands. No file, no output and no message may contain them, in any encoding."""

import base64
import gzip
import io
import json
import sqlite3
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from expunge.cli import main
from expunge.cli.app import COMMANDS, build_app
from expunge.cli.invocation import command_line, invoked_with
from expunge.errors import ExpungeError
from expunge.models import check_name
from expunge.secret_text import error_text, secret_problem, without_secrets
from expunge.sources.spec import check_spec
from leaks import leaks

SECRETS = {
    "passphrase": "Mark1 päss/w@rd?+&=passphrase",
    "file": "Mark2-passphrase-of-a-file+/=",
    "wrong": "Mark3-a-wrong-passphrase-for-the-key",
    "token": "hf_Mark4TokenOfTheEnvironment",
    "uri": "Mark5-password/of=a#URI",
    "typed": "Mark6-typed-after-the-key",
}
OWN = """
import json, os
from dataclasses import dataclass
from expunge.audit.measure import Measure
from expunge.training.method import GradientMethod

URI = "http://me:{uri}@host/api?token={uri}"

class Spy:
    def start(self, name, settings): self.write(["start", name, settings])
    def log(self, step, values): self.write(["log", step, values])
    def finish(self, result):
        self.write(["finish", str(result)])
        raise ConnectionError(f"no answer from {{URI}}, password={uri}")
    def write(self, row):
        with open("tracker.jsonl", "a") as file: file.write(json.dumps(row) + chr(10))

class Leaky(Measure):
    name = "Leaky"
    glossary = "A measure that fails with the secret in its error text."
    def compute(self, unlearned, original, retrained, task):
        raise ValueError(f"no answer from {{URI}}, Authorization: Bearer {uri}")

@dataclass(frozen=True, kw_only=True)
class Broken(GradientMethod):
    \"\"\"A method that fails.\"\"\"
    def loss(self, run, forget, retain):
        raise RuntimeError(f"no answer from {{URI}}, password={uri}")

def broken():
    raise RuntimeError(f"no answer from {{URI}}, password={uri}")
"""
GRID = """
title = "small"
data = ["digits?limit=200"]
models = ["mlp"]
seeds = [0]
[recipe]
epochs = 1
[[split]]
forget_share = 0.1
[[method]]
name = "own_code_of_mine:Broken"
settings = { epochs = 1 }
"""
DATA = ("--data", "digits?limit=300", "--model", "mlp")
RUN = (*DATA, "--checkpoint", "old.safetensors", "--forget-class", "3")


def commands(word, wrong):
    """(command, exit codes that are right) of a whole use, with keys and receipts, and of what goes wrong."""
    tracker, key = ("--track", "own_code_of_mine:Spy"), ("--key", "key.pub")
    uri = f"http://me:{SECRETS['uri']}@host/x?token={SECRETS['uri']}"
    file = ("--passphrase-file", word)
    yield "keygen key", 0
    yield ("keygen", "second", *file), 0
    yield ("train", *DATA, "--epochs", "2", *tracker, "--out", "old.safetensors"), 0
    run = ("unlearn", "finetune", *RUN, "--trials", "0", "--epochs", "1", "--sign-key", "key", *tracker)
    yield (*run, "--save-mask", "mask", "--density", "0.5", "--out", "new.safetensors"), (0, 1)
    audit = (
        "audit",
        *RUN[:4],
        "--checkpoint",
        "new.safetensors",
        "--original",
        "old.safetensors",
        "--forget-class",
        "3",
    )
    yield (*audit, "--measure", "own_code_of_mine:Leaky", "--out", "audit.json"), (0, 1)
    yield ("sign", "new.receipt.json", "--key", "second", *file, "--out", "again.json"), 0
    yield ("sign", "new.receipt.json", "--key", "key", "--passphrase-file", wrong, "--debug"), 2
    yield ("sign", "new.receipt.json", "--key", "key", SECRETS["typed"]), 2
    yield ("keygen", "third", "--passphrase", SECRETS["typed"]), 2
    yield ("keygen", "third", f"--passphrase={SECRETS['typed']}"), 2
    yield ("verify", "new.receipt.json", *key, "--model", "new.safetensors", "--record", "new.json"), 0
    yield ("ledger", "add", "l.db", "case 1", "--class", "3"), 0
    yield ("ledger", "attach", "l.db", "1", "--record", "new.json", "--receipt", "new.receipt.json", *key), 0
    yield "ledger export l.db l.json", 0
    yield "report new.json audit.json --out report.html", 0
    yield ("hub-folder", "new.safetensors", *DATA, "--out", "hub"), 0
    yield (
        ("init", "office", *DATA, "--checkpoint", "old.safetensors", "--sign-key", "key", "--trials", "0"),
        0,
    )
    yield "forget --project office --class 3 --wait", 0
    yield "forget --project office --pending", (0, 1)
    yield "status --project office --json", 0
    yield "bench grid.toml --out cache --results results --jobs 1", (0, 1)
    for flags in (
        ("--data", uri, "--model", "mlp"),
        ("--data", "digits", "--model", uri),
        (*DATA, "--track", f"mlflow:{uri}"),
    ):
        yield ("train", *flags, "--out", "x.pt"), 2
    yield ("init", "other", "--data", f"hf:{uri}", "--model", "mlp", "--checkpoint", "old.safetensors"), 2
    yield ("train", "--data", "own_code_of_mine:broken", "--model", "mlp", "--out", "x.pt", "--debug"), (2, 4)


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """A folder in which all commands ran (some seconds), and what they printed. The files with passphrases lie elsewhere."""
    folder, elsewhere = tmp_path_factory.mktemp("used"), tmp_path_factory.mktemp("elsewhere")
    word, wrong = elsewhere / "word", elsewhere / "wrong"
    word.write_text(SECRETS["file"])
    wrong.write_text(SECRETS["wrong"])
    (elsewhere / "own_code_of_mine.py").write_text(OWN.format(uri=SECRETS["uri"]))
    (folder / "grid.toml").write_text(GRID)
    out, err = io.StringIO(), io.StringIO()
    codes = {}
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.syspath_prepend(elsewhere)
        patch.setenv("EXPUNGE_PASSPHRASE", SECRETS["passphrase"])
        for name in ("HF_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, SECRETS["token"])
        for command, expected in commands(str(word), str(wrong)):
            words = command.split() if isinstance(command, str) else list(command)
            before = err.tell()
            code = main(words)
            if code not in (expected if isinstance(expected, tuple) else (expected,)):
                codes[" ".join(words)] = code, err.getvalue()[before:]
    return SimpleNamespace(
        folder=folder, out=out.getvalue(), err=err.getvalue(), wrong=codes, elsewhere=elsewhere
    )


def test_the_commands_of_the_search_do_their_work(used):
    assert not used.wrong
    written = {p.name for p in used.folder.rglob("*")}
    expected = {
        "tracker.jsonl",
        "new.receipt.json",
        "mask",
        "audit.json",
        "l.json",
        "report.html",
        "state.json",
        "results",
    }
    assert expected <= written
    # the secrets did go in: an unlocked key would not need them, and the errors were told
    assert b"ENCRYPTED" in (used.folder / "key").read_bytes()
    assert "no answer from http://***@" in used.err and "may be a passphrase" in used.err
    assert json.loads((used.folder / "new.receipt.json").read_text())["envelope"]["key"]


def test_no_file_contains_a_secret(used):
    assert leaks(used.folder, SECRETS) == []


def test_no_output_contains_a_secret(used):
    assert leaks(used.out, SECRETS) == [] == leaks(used.err, SECRETS)


def test_private_files_of_a_project_are_private(used):
    project = used.folder / "office"
    private = [*project.glob("models/*.secret.json"), *project.glob("models/*.requests.json")]
    private += [project / name for name in ("ledger.db", "state.json", "samples.npz")]
    assert len(private) == 5 and {p.stat().st_mode & 0o777 for p in private} == {0o600}


@pytest.mark.parametrize("secret", SECRETS)
def test_the_search_finds_each_encoding(tmp_path, secret):
    word = SECRETS[secret]
    raw = word.encode()
    plant = {
        "plain.txt": b"a " + raw + b" b",
        "base.html": b"data:x;base64," + base64.b64encode(b"abcd" + raw + b"efg"),
        "shift.html": base64.b64encode(b"ab" + raw + b"efg"),
        "url.txt": quote(word, safe="").encode(),
        "records.json": json.dumps({"command": word}).encode(),
        "hex.txt": raw.hex().encode(),
        "packed.gz": gzip.compress(raw),
        "utf16.txt": word.encode("utf-16"),
    }
    for name, data in plant.items():
        (tmp_path / name).write_bytes(data)
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member", raw * 3)
    with sqlite3.connect(tmp_path / "l.db") as database:
        database.execute("CREATE TABLE t (a)")
        database.execute("INSERT INTO t VALUES (?)", (word,))
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "f").write_bytes(raw)
    found = {line.split(" in ")[1].split(" as ")[0] for line in leaks(tmp_path, {secret: word})}
    assert found == {*plant, "packed.zip", "l.db", ".hidden/f"}
    assert leaks(f"x {word}", {secret: word}) and not leaks("harmless", SECRETS)


SHOWN = {
    "no answer from http://me:secret@host/api?token=3": "no answer from http://***@host/api?token=***",
    "http://u:pa/s@s?d#e@host/x": "http://***@host/x",
    "'http://u:pa'ss@host'": "'http://***@host'",
    "https://key@host:5000/x": "https://***@host:5000/x",
    "postgresql+psycopg2://me:word@host/runs": "postgresql+psycopg2://***@host/runs",
    "s3://b/k?X-Amz-Signature=abc&size=3": "s3://b/k?X-Amz-Signature=***&size=3",
    "https://blob/x?sv=1&sig=abc%3D": "https://blob/x?sv=1&sig=***",
    "--api-token=3 --tokenizer=bert": "--api-token=*** --tokenizer=bert",
    "{'password': 'two words', 'size': 1}": "{'password': ***, 'size': 1}",
    "AWS_SECRET_ACCESS_KEY=abc": "AWS_SECRET_ACCESS_KEY=***",
    "Authorization: Bearer abc.def": "Authorization: Bearer ***",
    "the token hf_abcdefghijk is wrong": "the token *** is wrong",
}
KEPT = (
    "git+https://host/repo@tag", "http://localhost:5000/x@y", "text:t.csv?tokenizer=bert&label=token", "folder:a@b/c?size=3",
    "--forget-group=user=Doe, Jane", "the passphrase is wrong", "webdataset:shards/train-{000..001}.tar?size=16", "--lr=0.1",
)  # fmt: skip


@pytest.mark.parametrize("text", SHOWN)
def test_secrets_in_texts_are_hidden(text):
    assert without_secrets(text) == SHOWN[text]
    assert without_secrets(SHOWN[text]) == SHOWN[text], "hiding again changes nothing"


@pytest.mark.parametrize("text", KEPT)
def test_other_texts_are_kept(text):
    assert without_secrets(text) == text and not secret_problem("it", text)


def test_a_typed_value_is_hidden_up_to_the_end_of_its_word():
    with invoked_with(["train", "--password=two words & more", "--out", "a b"]):
        assert command_line() == "expunge train '--password=***' --out 'a b'"


@pytest.mark.parametrize("check", [check_spec, check_name], ids=["data", "model"])
@pytest.mark.parametrize(
    "text", ["own:f?token=hunter2", "lake:s3://me:hunter2@b/x", "hf:https://hunter2@host/x"]
)
def test_data_and_models_with_secrets_are_refused_and_not_repeated(check, text):
    with pytest.raises(ExpungeError, match="environment variable") as caught:
        check(text)
    assert "hunter2" not in str(caught.value)


def test_errors_of_own_code_are_recorded_without_secrets():
    assert error_text(ValueError("password=hunter2")) == "ValueError: password=***"


# a private or public key, a passphrase and the secret of a receipt are named by their files
FILE_FLAGS = {
    "--key",
    "--empty-key",
    "--no-key",
    "--no-no-key",
    "--sign-key",
    "--passphrase-file",
    "--secret",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_flag_takes_a_secret_itself(name):
    """A value on the command line would stand in the history of the shell: flags about secrets name files."""
    words = [name, "finetune"] if COMMANDS[name].per_method else [name]
    pending, seen, seen_names = [build_app(words)[name]], 0, set()
    while pending:
        app = pending.pop()
        pending += [app[child] for child in app if not child.startswith("-")]
        for argument in app.assemble_argument_collection() if app.default_command else ():
            seen += 1
            seen_names |= {
                n for n in argument.names if any(w in n for w in ("pass", "secret", "token", "key"))
            }
    assert seen and seen_names <= FILE_FLAGS


def test_the_folder_of_own_code_is_not_searched(used):
    assert (used.elsewhere / "own_code_of_mine.py").is_file() and not Path(
        used.folder / "own_code_of_mine.py"
    ).exists()
