"""What each quantised tensor of a file costs, by quantising one group of them at a time, and which nodes to keep in float."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bnexport.comparison.precision import OpenForm, rms
from bnexport.onnx_graph.quantised_sites import Site
from bnexport.onnx_graph.site_statistics import SiteRange
from bnexport.progress import Progress
from bnexport.results.rounding import EXPLAINED, Rounding
from bnexport.rules.calibration import QuantisedTensor

BUDGET = 90.0
"""The ranking takes so many seconds; the most suspicious tensors come first."""

_QUANTISED_NAME = "_quant"
"""What onnxruntime's quantiser appends to the names of operators on integers."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """What was measured.

    Args:
        tensors: one for each group that was quantised alone, the most expensive first.
        groups: how many groups there are.
        keep: the nodes that have to stay in float for the rest to be within what quantisation explains; empty where none suffice.
        left: the error that is then left, as a share of the rms of the outputs.
    """

    tensors: tuple[QuantisedTensor, ...]
    groups: int
    keep: tuple[str, ...] = ()
    left: float = float("nan")


def describe_sites(opened: OpenForm, ranges: Mapping[int, SiteRange]) -> dict[int, QuantisedTensor]:
    """The activations of a file with fixed ranges, by site."""
    sites = opened.form.sites
    return {
        nth: QuantisedTensor(
            sites[nth].tensor,
            _nodes([sites[nth]]),
            sites[nth].low,
            sites[nth].high,
            seen.least,
            seen.most,
            seen.clipped,
        )
        for nth, seen in ranges.items()
        if sites[nth].scale
    }


def rank(
    opened: OpenForm,
    name: str,
    rounding: Rounding,
    described: Mapping[int, QuantisedTensor],
    progress: Progress,
    budget: float = BUDGET,
) -> Ranking:
    """Ranks the quantised tensors of a file.

    Args:
        opened: the file in float32.
        name: the output by which the error is measured.
        rounding: what quantisation explains of it.
        described: the activations with what their ranges do, by site.
        progress: advances by one for each group.
        budget: how many seconds it may take.
    """
    sites = opened.form.sites
    groups: dict[str, list[int]] = {}
    for nth, site in enumerate(sites):
        groups.setdefault(site.group, []).append(nth)
    order = sorted(groups.values(), key=lambda members: -_suspicion(members, described))
    progress.start("quantising one group of tensors at a time", len(order))
    begun, base = time.perf_counter(), opened.base[name]
    costs: list[tuple[float, list[int]]] = []
    for members in order:
        if time.perf_counter() - begun > budget:
            break
        weight = sites[members[0]].weight
        gates = np.zeros(len(sites), np.float32)
        gates[members] = 1
        values = opened.run(noise=gates) if weight else opened.run(quantise=gates)
        costs.append((rms(values[name], base), members))
        progress.advance(1)
    # Tensors behind a clipped one lose what it lost: of equal costs the first one in the graph is the cause.
    costs.sort(key=lambda entry: (-float(f"{entry[0]:.1e}"), entry[1][0]))
    tensors = tuple(
        _tensor(members, cost / (rounding.reference_rms or 1.0), sites, described) for cost, members in costs
    )
    off, left = _keep_in_float(opened, name, rounding, [m for _, m in costs if not sites[m[0]].weight])
    keep = _nodes([sites[nth] for nth in off])
    return Ranking(tensors, len(groups), keep, left / (rounding.reference_rms or 1.0))


def _keep_in_float(
    opened: OpenForm, name: str, rounding: Rounding, costs: Sequence[list[int]]
) -> tuple[list[int], float]:
    """The sites that have to stay in float, the most expensive groups first, at most half of them; and the error that is left."""
    count = 1
    while count <= max(1, len(costs) // 2):
        off = [nth for members in costs[:count] for nth in members]
        gates = np.ones(len(opened.form.sites), np.float32)
        gates[off] = 0
        left = rms(opened.run(quantise=gates)[name], opened.reference[name])
        if left <= EXPLAINED * rounding.expected_rms:
            return off, left
        count += max(1, count // 2)
    return [], float("nan")


def _suspicion(members: Sequence[int], described: Mapping[int, QuantisedTensor]) -> float:
    tensors = [described[nth] for nth in members if nth in described]
    return max((t.clipped + max(0.0, t.spare - 1) / 100 for t in tensors), default=0.0)


def _tensor(
    members: Sequence[int], cost: float, sites: Sequence[Site], described: Mapping[int, QuantisedTensor]
) -> QuantisedTensor:
    first = members[0]
    tensor = described.get(first) or QuantisedTensor(sites[first].tensor, ())
    return replace(tensor, cost=cost, nodes=_nodes([sites[nth] for nth in members]))


def _nodes(sites: Sequence[Site]) -> tuple[str, ...]:
    """The nodes around some sites, as the float file calls them."""
    return tuple(dict.fromkeys(name.removesuffix(_QUANTISED_NAME) for site in sites for name in site.nodes))
