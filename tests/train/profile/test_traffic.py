"""Counted bytes: shapes, programs written by hand, and XLA's own count where there are no loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.train.profile.memory_traffic import HloProgram, Traffic, size_of, traffic

BODY = """
%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[8]{0} get-tuple-element(%p), index=1
  %y = f32[8]{0} negate(%x)
  ROOT %t = (s32[], f32[8]{0}) tuple(%i, %y)
}

%condition (p.1: (s32[], f32[8])) -> pred[] {
  %p.1 = (s32[], f32[8]{0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%p.1), index=0
  %limit = s32[] constant(5)
  ROOT %less = pred[] compare(%i.1, %limit), direction=LT
}
"""
LOOP = (
    'while(%p.2), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"}}'
)


def entry(*lines):
    return "\n".join(
        ["", "ENTRY %main (a: f32[8]) -> f32[8] {", *(f"  {line}" for line in lines), "}", ""]
    )


def compiled(function, *arguments):
    return jax.jit(function).lower(*arguments).compile()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("f32[2,3]{1,0}", 24),
        ("bf16[8,128]{1,0:T(8,128)(2,1)}", 2048),
        ("pred[]", 1),
        ("s32[]", 4),
        ("f8e4m3fn[10]", 10),
        ("u64[0]", 0),
        ("f32[<=4]", 16),
        ("token[]", 0),
        ("(s32[], f32[8]{0}, /*index=5*/pred[2,2]{1,0})", 4 + 32 + 4),
    ],
)
def test_bytes_of_a_shape(shape, expected):
    assert size_of(shape) == expected


def test_an_instruction_reads_its_operands_and_writes_its_result():
    text = entry(
        "%a = f32[8]{0} parameter(0)",
        "%b = f32[8]{0} bitcast(%a)",
        'ROOT %c = bf16[8]{0} add(%a, %b), metadata={op_name="jit(f)/add(%a)"}',
    )
    assert traffic(text) == Traffic(32 + 32 + 16, 0)


def test_a_loop_takes_its_length_times_its_body_and_condition():
    once = (32 + 32) + (4 + 4 + 1)
    state = "%p.2 = (s32[], f32[8]{0}) parameter(0)"
    assert traffic(BODY + entry(state, f"ROOT %w = (s32[], f32[8]{{0}}) {LOOP}")) == Traffic(
        5 * once, 0
    )
    unknown = LOOP.partition(", backend_config")[0]
    assert traffic(BODY + entry(state, f"ROOT %w = (s32[], f32[8]{{0}}) {unknown}")) == Traffic(
        once, 1
    )


def test_a_conditional_takes_its_dearest_branch_and_a_call_its_computation():
    branches = """
%cheap (q: f32[8]) -> f32[8] {
  ROOT %q = f32[8]{0} parameter(0)
}

%dear (r: f32[8]) -> f32[8] {
  %r = f32[8]{0} parameter(0)
  ROOT %n = f32[8]{0} negate(%r)
}
"""
    a = "%a = f32[8]{0} parameter(0)"
    chosen = "conditional(%a, %a, %a), branch_computations={%cheap, %dear}"
    assert traffic(branches + entry(a, f"ROOT %o = f32[8]{{0}} {chosen}")) == Traffic(64)
    chosen = "conditional(%a, %a, %a), true_computation=%dear, false_computation=%cheap"
    assert traffic(branches + entry(a, f"ROOT %o = f32[8]{{0}} {chosen}")) == Traffic(64)
    assert traffic(branches + entry(a, "ROOT %o = f32[8]{0} call(%a), to_apply=%dear")) == Traffic(
        64
    )


def test_of_what_a_fusion_slices_or_updates_only_that_part_counts():
    fusion = """
%fused (p0: f32[100,8], p1: f32[100,8], p2: s32[]) -> f32[100,8] {
  %p0 = f32[100,8]{1,0} parameter(0)
  %p1 = f32[100,8]{1,0} parameter(1)
  %p2 = s32[] parameter(2)
  %zero = s32[] constant(0)
  %row = f32[1,8]{1,0} dynamic-slice(%p1, %p2, %zero), dynamic_slice_sizes={1,8}
  %double = f32[1,8]{1,0} add(%row, %row)
  ROOT %new = f32[100,8]{1,0} dynamic-update-slice(%p0, %double, %p2, %zero)
}
"""
    a = ["%a = f32[100,8]{1,0} parameter(0)", "%i = s32[] parameter(1)"]
    root = "ROOT %o = f32[100,8]{1,0} fusion(%a, %a, %i), kind=kLoop, calls=%fused"
    assert traffic(fusion + entry(*a, root)) == Traffic(32 + 32 + 4)


def test_what_a_fusion_reads_whole_counts_once():
    fusion = """
%fused (p0: f32[8]) -> (f32[8], f32[]) {
  %p0 = f32[8]{0} parameter(0)
  %square = f32[8]{0} multiply(%p0, %p0)
  %zero = f32[] constant(0)
  %sum = f32[] reduce(%p0, %zero), dimensions={0}, to_apply=%add
  ROOT %both = (f32[8]{0}, f32[]) tuple(%square, %sum)
}
"""
    root = "ROOT %o = (f32[8]{0}, f32[]) fusion(%a), kind=kInput, calls=%fused"
    assert traffic(fusion + entry("%a = f32[8]{0} parameter(0)", root)) == Traffic(32 + 32 + 4)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (lambda a, b: jnp.tanh(a @ b) + 1.0, (jnp.ones((64, 32)), jnp.ones((32, 16)))),
        (
            lambda a, b: jax.grad(lambda b: jnp.sum(jnp.tanh(a @ b)))(b),
            (jnp.ones((64, 32)), jnp.ones((32, 16))),
        ),
        (lambda a, i: 2.0 * jax.lax.dynamic_slice(a, (i, 0), (1, 32)), (jnp.ones((1000, 32)), 3)),
        (lambda a: jnp.sort(a.sum(0)), (jnp.ones((64, 32)),)),
    ],
    ids=["layer", "gradient", "slice", "sort"],
)
def test_without_loops_it_is_what_xla_counts(function, arguments):
    program = compiled(function, *arguments)
    np.testing.assert_allclose(
        traffic(program.as_text()).bytes, program.cost_analysis()["bytes accessed"], rtol=0.05
    )


def test_a_scan_of_a_real_program_counts_each_of_its_steps():
    def steps(length):
        program = compiled(
            lambda x: jax.lax.scan(lambda x, _: (jnp.sin(x) @ x, None), x, length=length)[0], x
        )
        return traffic(program.as_text())

    x = jnp.ones((64, 64))
    short, long = steps(10), steps(20)
    assert short.unbounded == long.unbounded == 0
    at_least = (
        10 * 4 * 64 * 64 * 4
    )  # the sine reads and writes a matrix, the product reads two (or one twice) and writes
    assert at_least <= long.bytes - short.bytes <= 2 * at_least
    program = compiled(lambda x, n: jax.lax.fori_loop(0, n, lambda _, x: jnp.sin(x) @ x, x), x, 10)
    assert traffic(program.as_text()).unbounded == 1


def test_every_computation_of_a_real_program_is_found():
    text = compiled(lambda x: jnp.sort(jax.nn.softmax(x)), jnp.ones((8, 8))).as_text()
    program = HloProgram(text)
    assert program.entry in program.computations and len(program.computations) == text.count("\n}")
    assert all(
        sum(line.is_root for line in lines.values()) == 1 for lines in program.computations.values()
    )
