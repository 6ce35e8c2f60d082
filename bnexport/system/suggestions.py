"""What may have been meant where a name that somebody typed does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

_NONE: Mapping[str, str] = MappingProxyType({})


def suggest(word: str, names: Iterable[str], former: Mapping[str, str] = _NONE) -> str:
    """A question that offers the most similar of some names, in upper or lower case; "" where none is similar.

    Similar is what `difflib.get_close_matches` takes for it: two thirds of the letters, in their order.

    Args:
        word: what was typed.
        names: what there is.
        former: names that something had once, with what it is called now. Where one of them is the most similar, the present name is offered.

    >>> suggest("josn", ["text", "json"]), suggest("JSON", ["json"]), suggest("xml", ["text", "json"])
    ('did you mean json?', 'did you mean json?', '')
    """
    nearest = most_similar(word, names, former)
    return f"did you mean {nearest}?" if nearest else ""


def most_similar(word: str, names: Iterable[str], former: Mapping[str, str] = _NONE) -> str:
    """The most similar of some names; "" where none is similar.

    >>> most_similar("resnet5", ["ResNet50", "VGG16"])
    'ResNet50'
    >>> most_similar("--sacling", ["--normalize", "--std"], {"--scaling": "--normalize"})
    '--normalize (formerly --scaling)'
    """
    import difflib  # needed only where something is wrong

    by_folded = {old.casefold(): f"{name} (formerly {old})" for old, name in former.items()}
    by_folded |= {name.casefold(): name for name in names}
    nearest = difflib.get_close_matches(word.casefold(), by_folded, n=1)
    return by_folded[nearest[0]] if nearest else ""
