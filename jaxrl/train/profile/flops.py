"""Floating-point operations of a traced program, loops multiplied by their lengths.

XLA's own count (`compiled.cost_analysis()`) takes the body of a loop once, however often it runs. A
jaxpr still knows the lengths of its scans.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

# What moves or renames numbers without computing any.
MOVES = re.compile(
    "bitcast_convert_type|broadcast_in_dim|concatenate|convert_element_type|copy|copy_p|device_put"
    "|dynamic_slice|dynamic_update_slice|expand_dims|gather|iota|optimization_barrier|pad|random_.*"
    "|reduce_precision|reshape|rev|scatter|select_n|slice|sort|split|squeeze|stop_gradient"
    "|transpose"
)
CALLABLES = ClosedJaxpr | Jaxpr


class Work(NamedTuple):
    """Floating-point operations, and the loops of unknown length, whose bodies count once."""

    products: dict[str, float]  # matrix products and convolutions, by the type of their operands
    other: float
    unbounded: int
    weighted: float = 0.0  # of products: operations times the bytes of the result, summed

    @property
    def total(self) -> float:
        """Products and other operations together."""
        return sum(self.products.values()) + self.other

    @property
    def product_bytes(self) -> float:
        """The size of a product's result, a mean over the operations of all products; 0 without."""
        return self.weighted / (sum(self.products.values()) or 1.0)

    def __add__(self, more: Work) -> Work:  # type: ignore[override]
        names = self.products | more.products
        products = {
            name: self.products.get(name, 0.0) + more.products.get(name, 0.0) for name in names
        }
        return Work(
            products,
            self.other + more.other,
            self.unbounded + more.unbounded,
            self.weighted + more.weighted,
        )

    def times(self, count: int) -> Work:
        """The work of `count` repetitions; a loop of unknown length still counts as one."""
        products = {name: count * flops for name, flops in self.products.items()}
        return Work(products, count * self.other, self.unbounded, count * self.weighted)


NOTHING = Work({}, 0.0, 0)


def count(program: CALLABLES) -> Work:
    """The work of a program as `jax.make_jaxpr` traces it, before the compiler changes anything.

    - A product [m, k] × [k, n] takes 2 m k n, a convolution 2 · outputs · kernel entries per
      output.
    - A reduction takes one per element that it reads, other arithmetic one per element of its
      result, whatever it is: tanh counts as much as +. Copies, comparisons, selections and whole
      numbers (so random bits) take none.
    - A scan takes length × body, a conditional its dearest branch, a loop of unknown length its
      body once.
    """
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    return sum((_equation(equation) for equation in jaxpr.eqns), NOTHING)


def _equation(equation: JaxprEqn) -> Work:
    name, parameters = equation.primitive.name, equation.params
    if name == "scan":
        return count(parameters["jaxpr"]).times(parameters["length"])
    if name == "while":
        once = count(parameters["cond_jaxpr"]) + count(parameters["body_jaxpr"])
        return once + NOTHING._replace(unbounded=1)
    if name == "cond":
        branches = [count(branch) for branch in parameters["branches"]]
        return max(branches, key=lambda work: work.total)
    if name in ("dot_general", "conv_general_dilated"):
        return _product(equation)
    if name.startswith(("reduce_", "cum", "scatter-")) and not MOVES.fullmatch(name):
        read = equation.invars[-1] if name.startswith("scatter-") else equation.invars[0]
        return NOTHING._replace(other=_floats(read))
    inner = list(_inner(parameters))
    if inner:  # jit, custom derivatives, checkpoints, …
        return sum((count(program) for program in inner), NOTHING)
    if MOVES.fullmatch(name):
        return NOTHING
    return NOTHING._replace(other=sum(_floats(result) for result in equation.outvars))


def _product(equation: JaxprEqn) -> Work:
    avals: Any = [variable.aval for variable in (*equation.invars, *equation.outvars)]
    left, right, result = avals
    dimensions = equation.params["dimension_numbers"]
    if equation.primitive.name == "dot_general":
        contracted = math.prod(left.shape[axis] for axis in dimensions[0][0])
    else:
        contracted = math.prod(right.shape) // right.shape[dimensions.rhs_spec[0]]
    # A mixed product runs in the wider type.
    kind = max(left.dtype, right.dtype, key=lambda dtype: dtype.itemsize)
    if not jnp.issubdtype(kind, jnp.floating):
        return NOTHING
    operations = 2.0 * math.prod(result.shape) * contracted
    size = math.prod(result.shape) * result.dtype.itemsize
    return NOTHING._replace(products={kind.name: operations}, weighted=operations * size)


def _floats(variable: Any) -> float:
    """How many floating-point numbers a variable holds."""
    aval = variable.aval
    is_float = hasattr(aval, "dtype") and jnp.issubdtype(aval.dtype, jnp.floating)
    return float(math.prod(aval.shape)) if is_float else 0.0


def _inner(parameters: dict[str, Any]) -> Iterator[CALLABLES]:
    for value in parameters.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, CALLABLES):
                yield item
