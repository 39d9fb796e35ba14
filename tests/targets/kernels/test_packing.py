"""Packed weights: their size, and that the vector code restores every code of every grid."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from mpqdeploy.targets.kernels.packing import (
    VECTOR_BYTES,
    Weights,
    field_widths,
    lifted,
    pack,
    unpacked_at_once,
)
from mpqdeploy.targets.program import Grid

GRIDS = [
    Grid(bits=1, signed=True, bipolar=True),
    *(Grid(bits=bits, signed=True) for bits in range(1, 9)),
    *(Grid(bits=bits, signed=False) for bits in (1, 2, 4, 8)),
    Grid(bits=2, signed=True, narrow=True),
]


def random_codes(grid: Grid, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if grid.bipolar:
        return rng.choice([-1, 1], shape)
    return rng.integers(grid.low, grid.high + 1, shape)


def restore(codes: np.ndarray, grid: Grid, mcpu: str) -> np.ndarray:
    """Codes after packing and unpacking by a compiled function, tile by tile."""
    weights = Weights(codes, grid)
    tiles, length = codes.shape[0], weights.length
    with IRBuilder() as builder, T.prim_func():
        T.func_name("restore")
        weights.declare()
        out = T.arg("out", T.buffer((tiles, length), "int32"))
        weights.allocate()
        with T.serial(0, tiles) as tile:
            weights.unpack(tile)
            with T.serial(0, length // 8) as i:
                value = T.cast(weights.load(i * 8, 8), "int32x8")
                T.buffer_store(out, value, [tile, T.ramp(i * 8, 1, 8)])
    func = builder.get().with_attr("global_symbol", "restore")
    target = tvm.target.Target({"kind": "llvm", "mcpu": mcpu})
    result = tvm.runtime.tensor(np.zeros((tiles, length), "int32"))
    constants = [tvm.runtime.tensor(array) for array in weights.constants]
    tvm.compile(func, target=target).jit()["restore"](*constants, result)
    return result.numpy()[:, : codes.shape[1]]


@pytest.mark.parametrize("bits", range(1, 9))
def test_field_widths_add_up_and_divide_a_byte(bits: int) -> None:
    widths = field_widths(bits)
    assert sum(widths) == bits
    assert all(8 % width == 0 for width in widths)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_packed_bytes_are_the_codes_own_width(grid: Grid) -> None:
    codes = random_codes(grid, (3, 144 * 16))
    bits = 1 if grid.bipolar else grid.bits
    assert sum(array.nbytes for array in pack(codes, grid)) == codes.size * bits // 8


@pytest.mark.parametrize("length", [8, 20, 64, 600, 1096])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_restores_every_code(grid: Grid, length: int) -> None:
    codes = random_codes(grid, (2, length), seed=length)
    codes[0, 0], codes[0, 1] = grid.low, grid.high
    np.testing.assert_array_equal(restore(codes, grid, "x86-64"), codes)


def test_restores_on_this_machine() -> None:
    grid = Grid(bits=7, signed=True)
    codes = random_codes(grid, (2, 16 * 64 + 8))
    cpu = tvm.target.codegen.llvm_get_system_cpu()
    np.testing.assert_array_equal(restore(codes, grid, cpu), codes)


def restore_in_registers(codes: np.ndarray, grid: Grid, lanes: int, mcpu: str) -> np.ndarray:
    """Codes after packing and reading them, unit by unit, from the packed vectors."""
    weights = Weights(codes, grid, in_registers=True)
    assert weights.scratch_bytes == 0
    tiles, length = codes.shape
    size = unpacked_at_once(grid)
    with IRBuilder() as builder, T.prim_func():
        T.func_name("restore")
        weights.declare()
        out = T.arg("out", T.buffer((tiles, length), "int32"))
        weights.allocate()
        with T.serial(0, tiles) as tile:
            weights.unpack(tile)
            with T.serial(0, length // size) as unit:
                for code in range(0, size, lanes):
                    value = T.cast(weights.load_unit(unit, code, lanes), f"int32x{lanes}")
                    T.buffer_store(out, value, [tile, T.ramp(unit * size + code, 1, lanes)])
    func = builder.get().with_attr("global_symbol", "restore")
    target = tvm.target.Target({"kind": "llvm", "mcpu": mcpu})
    result = tvm.runtime.tensor(np.zeros((tiles, length), "int32"))
    constants = [tvm.runtime.tensor(array) for array in weights.constants]
    tvm.compile(func, target=target).jit()["restore"](*constants, result)
    return result.numpy()


NARROW = [grid for grid in GRIDS if grid.bits < 8]


@pytest.mark.parametrize("lanes", [16, 64])
@pytest.mark.parametrize("grid", NARROW, ids=str)
def test_restores_every_code_in_registers(grid: Grid, lanes: int) -> None:
    codes = random_codes(grid, (2, 3 * unpacked_at_once(grid)), seed=lanes)
    codes[0, 0], codes[0, 1] = grid.low, grid.high
    result = restore_in_registers(codes, grid, lanes, "x86-64")
    np.testing.assert_array_equal(result, codes << lifted(grid))
    width = 1 if grid.bipolar else grid.bits
    packed = pack(codes, grid, in_registers=True)
    assert sum(array.nbytes for array in packed) == codes.size * width // 8


def test_registers_need_whole_vectors() -> None:
    grid = Grid(bits=4, signed=True)
    with pytest.raises(ValueError, match="do not fill"):
        Weights(random_codes(grid, (1, 3 * VECTOR_BYTES)), grid, in_registers=True)
