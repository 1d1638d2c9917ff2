"""Keep passwords and tokens out of texts: records, logs and messages may be read by people who may not know them."""

from __future__ import annotations

import re

# names whose values are secret anywhere in a text, as in `password=...`
_NAMES = (
    r"pass(?:word|wd|phrase)|pwd|secret|token|api[-_]?key|access[-_]?key|credentials?|signature|authorization"
)
# names whose values are secret in the query of a URI
_QUERY = rf"{_NAMES}|pass|key|auth|sig|user"
_URI = re.compile(r"://\S+")
# name and password, as far as the last @: a password may contain a slash, a question mark or an @
_USER = re.compile(r"://(?=[^/?#]*@|[^/?#]*:(?!\d*(?:[/?#]|$)))\S*@")
_IN_QUERY = re.compile(rf"([?&;](?:[\w.-]*[-_.])?(?:{_QUERY})=)[^&;\s]+", re.IGNORECASE)
# the value ends at the closing quote, or at a blank or the next option
_VALUE = r"(?:'[^']*'?|\"[^\"]*\"?|\*\*\*|[^\s&;]+)"
_PAIR = re.compile(rf"(?<!\w)((?:[\w.-]*[-_.])?(?:{_NAMES})=){_VALUE}", re.IGNORECASE)
_QUOTED = re.compile(
    rf"((?P<quote>['\"])(?:[\w.-]*[-_.])?(?:{_NAMES})(?P=quote)\s*:\s*){_VALUE}", re.IGNORECASE
)
_HEADER = re.compile(r"(\b(?:authorization\s*:\s*)(?:basic\s+|bearer\s+)?|\bbearer\s+)\S+", re.IGNORECASE)
# tokens of Hugging Face, the only ones that a library of Expunge writes without a name
_TOKEN = re.compile(r"\bhf_\w{8,}")
HIDDEN = "***"


def without_secrets(text: str) -> str:
    """Return a text in which passwords and tokens are `***`.

    These are hidden: name and password of a URI, secret values of its query, values of names such as `password` and `token`,
    headers `Authorization`, and tokens of Hugging Face. More may be hidden than the secret, but never less.

    Example:
        >>> without_secrets("no answer from http://me:secret@host/api?token=3")
        'no answer from http://***@host/api?token=***'
        >>> without_secrets("--api-token=3 --tokenizer=bert")
        '--api-token=*** --tokenizer=bert'
    """
    text = _URI.sub(lambda uri: _IN_QUERY.sub(rf"\1{HIDDEN}", _USER.sub(f"://{HIDDEN}@", uri[0])), text)
    for pattern in (_PAIR, _QUOTED, _HEADER):
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return _TOKEN.sub(HIDDEN, text)


def argument_without_secrets(word: str) -> str:
    """Return one word of a command line without secrets. A secret value may contain blanks, and ends with the word."""
    found = _PAIR.search(word)
    return without_secrets(
        f"{word[: found.end(1)]}{HIDDEN}" if found and " " in word[found.end(1) :] else word
    )


def secret_problem(what: str, text: str) -> str:
    """Return why a text that is kept in records and projects cannot be used, as one sentence; empty if it can.

    Args:
        what: What the text is, such as "the data". The sentence never repeats the text itself.
        text: The text.
    """
    if without_secrets(text) == text:
        return ""
    return (
        f"{what} contains a name, a password or a token, which would stand in records and projects; leave it out, and let your own "
        "function or library read it from an environment variable or a file."
    )


def error_text(error: BaseException) -> str:
    """Return type and text of an error of the user's code for records and results, without secrets."""
    return without_secrets(f"{type(error).__name__}: {error}")
