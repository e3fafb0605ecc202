"""Counting kernels and bytes in a program that XLA compiled for a GPU."""

import pytest

from benchmarks.deviceless import BANDWIDTH, LAUNCH, launched, size

PROGRAM = """HloModule jit_f

%body.1 (arg.1: (s32[], f32[1024,64])) -> (s32[], f32[1024,64]) {
  %arg.1 = (s32[], f32[1024,64]{1,0}) parameter(0)
  %get-tuple-element.1 = f32[1024,64]{1,0} get-tuple-element(%arg.1), index=1
  %loop_add_fusion = f32[1024,64]{1,0} fusion(%get-tuple-element.1), kind=kLoop, calls=%fused
  %get-tuple-element.0 = s32[] get-tuple-element(%arg.1), index=0
  ROOT %tuple.1 = (s32[], f32[1024,64]{1,0}) tuple(%get-tuple-element.0, %loop_add_fusion)
}

ENTRY %main.2 (x: f32[1024,64]) -> f32[] {
  %x = f32[1024,64]{1,0} parameter(0)
  %while.1 = (s32[], f32[1024,64]{1,0}) while(%x), condition=%cond, body=%body.1, \
backend_config={"known_trip_count":{"n":"5"}}
  %get-tuple-element.2 = f32[1024,64]{1,0} get-tuple-element(%while.1), index=1
  ROOT %reduce_fusion = f32[] fusion(%get-tuple-element.2), kind=kInput, calls=%fused
}
"""


def test_kernels_count_as_often_as_their_loop_goes_round():
    added, reduced = launched(PROGRAM)
    assert added == ("loop_add_fusion", 5, 1024 * 64 * 4, 1024 * 64 * 4)
    assert reduced == ("reduce_fusion", 1, 1024 * 64 * 4, 4)
    assert reduced.seconds == LAUNCH
    large = added._replace(read=10**9)
    assert large.seconds == pytest.approx(5 * (10**9 + 1024 * 64 * 4) / BANDWIDTH)


def test_sizes_are_those_of_xlas_shapes():
    assert size("f32[64,4]{1,0}") == 1024
    assert size("(pred[3]{0}, s64[], bf16[2,2]{1,0})") == 3 + 8 + 8
