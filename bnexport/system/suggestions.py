"""What may have been meant where a name that somebody typed does not exist."""

from __future__ import annotations

from collections.abc import Iterable


def suggest(word: str, names: Iterable[str]) -> str:
    """A question that offers the most similar of some names, in upper or lower case; "" where none is similar.

    Similar is what `difflib.get_close_matches` takes for it: two thirds of the letters, in their order.

    >>> suggest("josn", ["text", "json"]), suggest("JSON", ["json"]), suggest("xml", ["text", "json"])
    ('did you mean json?', 'did you mean json?', '')
    """
    nearest = most_similar(word, names)
    return f"did you mean {nearest}?" if nearest else ""


def most_similar(word: str, names: Iterable[str]) -> str:
    """The most similar of some names; "" where none is similar.

    >>> most_similar("resnet5", ["ResNet50", "VGG16"])
    'ResNet50'
    """
    import difflib  # needed only where something is wrong

    by_folded = {name.casefold(): name for name in names}
    nearest = difflib.get_close_matches(word.casefold(), by_folded, n=1)
    return by_folded[nearest[0]] if nearest else ""
