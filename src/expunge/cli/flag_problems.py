"""What is wrong with the flags of a command, as sentences."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

from cyclopts.exceptions import CycloptsError, MissingArgumentError, UnknownCommandError, UnusedCliTokensError

# after these flags, a word too many may be a passphrase, which no message repeats
PRIVATE_FLAGS = ("--key", "--sign-key", "--passphrase-file")
MAYBE_PASSPHRASE = (
    "unexpected word, which is not shown, as it may be a passphrase; no flag takes a passphrase: put it into a file "
    "(--passphrase-file FILE), or into EXPUNGE_PASSPHRASE, and leave the word out."
)


def flag_problems(error: CycloptsError, words: Sequence[str]) -> list[str]:
    """Return what is wrong with the flags, one sentence each: for a missing flag, all missing and unknown ones."""
    argument = error.argument
    if isinstance(error, UnknownCommandError | UnusedCliTokensError):
        if any(word.partition("=")[0] in PRIVATE_FLAGS for word in words):
            return [MAYBE_PASSPHRASE]
        return [f"unexpected word '{(error.unused_tokens or [''])[0]}'."]
    if not isinstance(error, MissingArgumentError) or argument is None or error.app is None:
        return [str(error)]
    typed = [word.partition("=")[0] for word in words if word.startswith("--")]
    if set(typed) & set(argument.names):
        return [f"{argument.name} needs a value."]
    arguments = error.app.assemble_argument_collection()
    known = {name for each in arguments for name in each.names}
    problems = [_unknown_flag(flag, known) for flag in typed if flag not in known]
    missing = [each.name for each in arguments if each.required and not set(typed) & set(each.names)]
    # the library reports the first one; words without a flag may belong to the others
    flags = [name for name in missing if name.startswith("--")]
    return problems + [f"{name} is missing." for name in dict.fromkeys([argument.name, *flags])]


def _unknown_flag(flag: str, known: Collection[str]) -> str:
    nearest = difflib.get_close_matches(flag, known, n=1)
    return f"Unknown option: {flag}." + (f" Did you mean {nearest[0]}?" if nearest else "")
