"""The first thing on a help page: a command to copy. `METHOD` stands for the method that the page is about."""

from __future__ import annotations

import shlex

UNLEARN = "expunge unlearn METHOD --checkpoint original.safetensors --data digits --model cnn --forget-class 3 --report report.html"

# the words after `expunge`, without a method -> the example
EXAMPLES = {
    "": "expunge demo",
    "demo": "expunge demo --data digits --seeds 2 --out demo",
    "methods": "expunge methods --verbose",
    "train": "expunge train --data digits --model cnn --out original.safetensors",
    "unlearn": UNLEARN,
    "audit": "expunge audit --checkpoint unlearned.safetensors --original original.safetensors "
    "--retrained retrained.safetensors --data digits --model cnn",
    "audit-predictions": "expunge audit-predictions easydub/cifar10",
    "report": "expunge report demo --out report.html",
    "hub-folder": "expunge hub-folder unlearned.safetensors --data digits --model cnn --out upload",
    "convert": "expunge convert mine.pt plain.pt --allow argparse.Namespace",
    "bench": "expunge bench grid.toml --minutes 60",
    "erase": "expunge erase METHOD pipeline --concept 'Van Gogh' --out erased",
    "demo-generation": "expunge demo-generation --out demo-generation",
    "train-generator": "expunge train-generator --data digits --out generator.safetensors",
    "unlearn-generator": "expunge unlearn-generator METHOD --checkpoint generator.safetensors --data digits --forget 3 --out "
    "without-3.safetensors",
    "init": "expunge init office --data digits --model cnn --checkpoint original.safetensors",
    "forget": "expunge forget --project office --class 3 --subject request-1 --due 2027-01-31",
    "export": "expunge export unlearned.ckpt --project office",
    "status": "expunge status --project office",
    "ledger": "expunge ledger list requests.db",
    "ledger add": "expunge ledger add requests.db person-17 --due 2027-01-31",
    "ledger attach": "expunge ledger attach requests.db 1 --receipt unlearned.receipt.json",
    "ledger list": "expunge ledger list requests.db",
    "ledger show": "expunge ledger show requests.db 1",
    "ledger overdue": "expunge ledger overdue requests.db",
    "ledger check": "expunge ledger check requests.db --full",
    "clean": "expunge clean office --dry-run",
    "verify": "expunge verify unlearned.receipt.json --model unlearned.safetensors",
    "sign": "expunge sign unlearned.receipt.json --key office.key",
    "keygen": "expunge keygen office.key",
    "completion": "expunge completion --shell bash",
}
WIDTH = 78


def example(words: list[str]) -> str:
    """Return the example for the words after `expunge`, in lines of at most 78 columns; "" if there is none."""
    for kept in (2, 1, 0):
        text = EXAMPLES.get(" ".join(words[:kept]))
        if text is not None and (kept or not words):
            method = words[1] if len(words) > 1 else "esd" if words == ["erase"] else "salun"
            return _wrapped(text.replace("METHOD", shlex.quote(method)))
    return ""


def _wrapped(command: str) -> str:
    """Return a command in lines that end with a backslash, and never within a flag and its value."""
    parts = command.replace(" --", "\n--").splitlines()
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) + 3 > WIDTH:
            lines[-1] += " \\"
            lines.append(f"    {part}")
        else:
            lines[-1] += f" {part}"
    return "\n".join(lines)
