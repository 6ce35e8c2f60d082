"""Which releases of a package are meant: `onnxruntime==1.20..1.31`, `==1.20.1,1.31.0`, or specifiers as pip reads them (packaging)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from bnexport.errors import UsageError

EXPECTED = (
    "such as onnxruntime==1.20.., openvino==2025.0..2026.1, onnxruntime==1.20.1,1.31.0 or onnxruntime>=1.20,<1.31"
)


@dataclass(frozen=True, slots=True)
class ReleaseRange:
    """Releases of one package.

    Args:
        text: as they were given.
        package: the name of the package, normalised.
        parts: a release is meant where it fits one of them; they are what an installer is asked for.
        exact: releases that were named one by one.
    """

    text: str
    package: str
    parts: tuple[SpecifierSet, ...]
    exact: tuple[Version, ...] = ()

    def __contains__(self, release: Version) -> bool:
        """Whether a release is meant; a pre-release never is."""
        return not release.is_prerelease and any(release in part for part in self.parts)


def parse_range(text: str) -> ReleaseRange:
    """The releases that a text means.

    NAME==PART,PART ..., where a part is one release (1.31.0) or a range with both ends (1.20..1.31, 1.20.., ..1.31), whose upper end
    stands for all that begin with it (1.31.1); or a requirement as pip reads it (NAME>=1.20,<1.31, NAME==1.31.*, NAME for all of them).

    Raises:
        UsageError: it is none of these, or names a pre-release.

    >>> parse_range("onnxruntime==..1.21").parts
    (<SpecifierSet('<1.22')>,)
    >>> Version("1.31.1") in parse_range("onnxruntime==1.20..1.31"), Version("1.32.0") in parse_range("onnxruntime==1.20..1.31")
    (True, False)
    >>> parse_range("MNN==3.1.0,3.2.0").exact
    (<Version('3.1.0')>, <Version('3.2.0')>)
    """
    match = re.fullmatch(r"\s*([A-Za-z0-9][\w.-]*?)\s*==\s*([^=<>!~*;\[\]]+)", text)
    if match is None:
        return _requirement(text)
    parts, exact = [], []
    for part in match[2].split(","):
        low, dots, high = (side.strip() for side in part.partition(".."))
        if not dots:
            exact.append(_version(low, text))
            parts.append(SpecifierSet(f"=={low}"))
            continue
        if not low and not high:
            raise _refusal(text, part)
        bounds = [f">={_version(low, text)}"] if low else []
        bounds += [f"<{_after(_version(high, text))}"] if high else []
        if low and high and Version(low) >= Version(_after(_version(high, text))):
            raise UsageError(f"the range {part.strip()} of --matrix is empty", expected="the lower release first")
        parts.append(SpecifierSet(",".join(bounds)))
    return ReleaseRange(text, canonicalize_name(match[1]), tuple(parts), tuple(exact))


def sort_releases(releases: Sequence[str], wanted: ReleaseRange) -> list[Version]:
    """The releases among some that are meant, the oldest first; texts that are no versions are left out.

    >>> [str(release) for release in sort_releases(["1.9", "1.10", "1.10rc1", "x"], parse_range("some==1.."))]
    ['1.9', '1.10']
    """
    versions = set()
    for release in releases:
        try:
            versions.add(Version(release))
        except InvalidVersion:
            continue
    return sorted(version for version in versions if version in wanted)


def _requirement(text: str) -> ReleaseRange:
    try:
        requirement = Requirement(text)
    except (InvalidRequirement, InvalidSpecifier) as error:
        raise _refusal(text, text) from error
    if requirement.url or requirement.extras or requirement.marker:
        raise _refusal(text, text)
    exact = [Version(part.version) for part in requirement.specifier if part.operator == "==" and "*" not in str(part)]
    return ReleaseRange(text, canonicalize_name(requirement.name), (requirement.specifier,), tuple(exact))


def _version(text: str, whole: str) -> Version:
    try:
        version = Version(text)
    except InvalidVersion as error:
        raise _refusal(whole, text) from error
    if version.is_prerelease:
        raise UsageError("--matrix does not run pre-releases", found=text, expected="a release")
    return version


def _after(version: Version) -> str:
    """The first release that does not begin with this one."""
    *front, last = version.release
    return ".".join(map(str, [*front, last + 1]))


def _refusal(text: str, part: str) -> UsageError:
    inside = f"{part.strip()} in {text.strip()}" if part.strip() != text.strip() else text.strip()
    return UsageError("cannot read the releases of --matrix", found=inside or "nothing", expected=EXPECTED)
