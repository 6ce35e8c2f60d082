"""JAX as a backend of Keras: passes are compiled, for each shape of the inputs, with the weights outside (jax)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, cast

import numpy as np

from bnexport.frameworks.keras.backends import Forward, Tensors, Traced, weights_of
from bnexport.frameworks.keras.logits import Noted
from bnexport.frameworks.keras.patch import method_replaced
from bnexport.frameworks.keras.recorder import OF_A_LAYER, Recorder
from bnexport.frameworks.models import is_floating
from bnexport.frameworks.protocols import Layer
from bnexport.types import Array

if TYPE_CHECKING:
    import jax
    import keras
    from jax.extend.core import Jaxpr, Var

NOT_COMPILED = "is not supported by dot_general on"
"""What JAX says about a product in float16 that adds up in float32 (jax.lax.DotAlgorithmPreset)."""


class Jax:
    """The backend `jax`."""

    name = "jax"

    def traces(self, calls: int, *, often: bool) -> bool:  # noqa: ARG002 - always the same
        """Each operation would be compiled alone."""
        return True

    def load(self) -> str:
        """Imports JAX."""
        import jax

        return str(jax.__version__)

    @contextmanager
    def precision(self, *, float64: bool) -> Iterator[None]:
        """Without this JAX makes float32 of float64, and int32 of int64; its own attention has a softmax in float32, whatever it is given."""
        import jax
        from keras.src import backend

        with jax.enable_x64(float64):
            if not float64:
                yield
                return
            with method_replaced(backend.nn, "dot_product_attention", _attention):
                yield

    def with_seed(self, seed: int) -> AbstractContextManager[None]:  # noqa: ARG002 - Keras passes the seeds
        """Every layer has a generator of its own."""
        return nullcontext()

    def logits(self) -> Noted:
        """Tensors take no attributes."""
        return Noted()

    def tensor(self, array: Array, dtype: str) -> object:
        """A tensor on the device that Keras computes on."""
        import keras

        return keras.ops.convert_to_tensor(array, dtype=dtype)

    def array(self, tensor: object) -> Array:
        """A copy on the host."""
        return np.asarray(tensor)

    def traced_for(self, model: keras.Model, x: Sequence[object]) -> tuple[object, ...]:  # noqa: ARG002 - of any model
        """A compiled pass holds for one shape."""
        return tuple((one.shape, str(one.dtype)) for one in cast("Sequence[jax.Array]", x))

    def trace(self, forward: Forward, model: keras.Model, x: Sequence[object]) -> Traced:
        """A compiled function. The weights are arguments: as constants they would be folded, at great length.

        What cannot be compiled as a whole is computed operation by operation: attention in float16 on a CPU.
        """
        import jax

        names: list[str] = []

        def forward_all(inputs: Sequence[object], weights: tuple[list[object], list[object]]) -> list[object]:
            outputs = forward(inputs, weights)
            names[:] = outputs
            return list(outputs.values())

        try:
            compiled = jax.jit(forward_all).lower(list(x), weights_of(model)).compile()
        except ValueError as error:
            if NOT_COMPILED not in str(error):
                raise
            return lambda inputs: forward(inputs, weights_of(model))

        def run(inputs: Sequence[object]) -> Tensors:
            return dict(zip(names, compiled(list(inputs), weights_of(model)), strict=True))

        return run

    def recorder(self, names: Sequence[str], paths: Mapping[int, str]) -> Recorder:
        """Goes by the equations of the traced function."""
        return _JaxprRecorder(names, paths)

    def observe(self, forward: Forward, model: keras.Model, x: Sequence[object], recorder: Recorder) -> None:
        """Traces the pass, and runs nothing."""
        import jax

        seen = cast("_JaxprRecorder", recorder)

        def forward_layers(inputs: Sequence[object], weights: tuple[list[object], list[object]]) -> list[object]:
            forward(inputs, weights)
            return seen.every()

        seen.follow(jax.make_jaxpr(forward_layers)(list(x), weights_of(model)).jaxpr)


def _attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    scale: float | None = None,
    is_causal: bool = False,
    flash_attention: bool | None = None,  # noqa: ARG001 - a faster way to the same
    attn_logits_soft_cap: float | None = None,  # noqa: ARG001 - Keras ignores it, but on TPU
) -> jax.Array:
    """softmax(scale query key^T + bias) value in the type of the query (keras.ops.dot_product_attention); shapes (B, T, N, H) and (B, S, K, H)."""
    import jax
    from jax import numpy as jnp

    heads = query.shape[2] // key.shape[2]
    key, value = (jnp.repeat(each, heads, axis=2).astype(query.dtype) for each in (key, value))
    logits = jnp.einsum("btnh,bsnh->bnts", query, key) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        logits += jnp.asarray(bias, query.dtype)
    if is_causal:
        causal = jnp.tril(jnp.ones(logits.shape[-2:], bool))
        mask = causal if mask is None else jnp.logical_and(jnp.asarray(mask, bool), causal)
    if mask is not None:
        logits = jnp.where(jnp.asarray(mask, bool), logits, -0.7 * float(np.finfo(np.float32).max))
    return jnp.einsum("bnts,bsnh->btnh", jax.nn.softmax(logits), value)


class _JaxprRecorder(Recorder):
    def __init__(self, names: Sequence[str], paths: Mapping[int, str]) -> None:
        super().__init__(names, paths)
        self._trace: object = None
        self._items = 0
        self._seen: dict[str, tuple[str, jax.Array]] = {}
        self._inputs: dict[str, tuple[str, ...]] = {}

    @contextmanager
    def begin(self, x: Sequence[object]) -> Iterator[None]:
        self._calls.clear()  # of a pass that could not be compiled
        self._seen.clear()
        self._trace = getattr(x[0], "_trace", None)
        self._items = cast("jax.Array", x[0]).shape[0]
        yield

    def is_new(self, tensor: object) -> bool:
        if getattr(tensor, "_trace", None) is not self._trace:  # inside a loop, or no result of the pass
            return False
        return not any(tensor is other for _, other in self._seen.values())

    def add(self, name: str, kind: str, tensor: object) -> None:
        self._seen[name] = kind, cast("jax.Array", tensor)

    def every(self) -> list[object]:
        """The tensors of all layers."""
        return [tensor for _, tensor in self._seen.values()]

    def tensors(self) -> dict[str, object]:
        return {f"{name}{OF_A_LAYER}": self._seen[name][1] for name in self._names}

    def follow(self, jaxpr: Jaxpr) -> None:
        """Looks up what each layer reads in the function whose results are the tensors of all layers."""
        from jax.extend.core import Literal

        made = {
            variable: name
            for name, variable in zip(self._seen, jaxpr.outvars, strict=True)
            if not isinstance(variable, Literal)
        }
        behind = {
            variable: [v for v in equation.invars if not isinstance(v, Literal)]
            for equation in jaxpr.eqns
            for variable in equation.outvars
        }
        self._inputs = {name: tuple(_before(variable, made, behind)) for variable, name in made.items()}

    def layers(self) -> list[Layer]:
        return [
            Layer(name, kind, _open_shape(tensor.shape, self._items), self._inputs.get(name, ()))
            for name, (kind, tensor) in self._seen.items()
            if is_floating(tensor.dtype)
        ]


def _open_shape(shape: tuple[int, ...], items: int) -> tuple[int | None, ...]:
    """The shape for any number of items."""
    return (None, *shape[1:]) if shape[:1] == (items,) else shape


def _before(variable: Var, made: Mapping[Var, str], behind: Mapping[Var, Sequence[Var]]) -> list[str]:
    """The layers whose outputs the equations behind a variable read."""
    before: dict[str, None] = {}
    waiting, visited = list(behind.get(variable, ())), set()
    while waiting:
        one = waiting.pop()
        if one in visited:
            continue
        visited.add(one)
        if one in made:
            before[made[one]] = None
        else:
            waiting += behind.get(one, ())
    return list(before)
