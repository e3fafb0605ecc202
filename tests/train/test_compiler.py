"""What the compiler is told on a GPU, and what happens where it does not know it."""

import jax
import jax.numpy as jnp
import pytest

from jaxrl.train import compiler
from jaxrl.train.compiler import GRAPHS, compile_program, options_for


def doubled():
    return jax.jit(lambda x: 2 * x).lower(jnp.float32(3.0))


def test_loops_belong_into_graphs_on_a_gpu_alone_and_unless_the_user_says_otherwise():
    assert "WHILE" in options_for("gpu", "")[GRAPHS].split(",")
    assert options_for("cpu", "") == options_for("tpu", "") == {}
    assert options_for("gpu", f"--{GRAPHS}=FUSION") == {}


def test_an_option_that_this_xla_does_not_know_is_left_out(monkeypatch):
    asked = {GRAPHS: "AN_UNKNOWN_KIND"}
    monkeypatch.setattr(compiler, "options_for", lambda platform, flags: asked)
    with pytest.raises(jax.errors.JaxRuntimeError, match=GRAPHS):
        doubled().compile(compiler_options=asked)
    assert float(compile_program(doubled())(jnp.float32(3.0))) == 6.0


def test_other_errors_of_the_compiler_are_not_hidden(monkeypatch):
    monkeypatch.setattr(compiler, "options_for", lambda platform, flags: {"xla_no_such": "1"})
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_no_such"):
        compile_program(doubled())
