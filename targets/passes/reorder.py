"""reorder: max pools behind the quantizers that read them.

A maximum commutes with every function that never decreases, and so with rounding to codes: pooling
the codes gives the codes of the pooled values, exactly. Pools then run on integers.
"""

from __future__ import annotations

from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper

QUANTIZERS = ("Quant", "IntQuant", "BipolarQuant", "MultiThreshold")
INCREASING = ("Relu", "Clip", "Identity")


def pools_behind_quantizers(model: ModelWrapper) -> bool:
    """Move max pools of floats behind their quantizer, in place; whether there were any.

    The quantizer's old output keeps its name and values, and is now the pool's; shapes before the
    pool have to be inferred again.
    """
    nodes = list(model.graph.node)
    moved = [_move(model, pool) for pool in nodes if pool.op_type in ("MaxPool", "GlobalMaxPool")]
    return any(moved)


def _move(model: ModelWrapper, pool: NodeProto) -> bool:
    producer = model.find_producer(pool.input[0])
    if len(pool.output) > 1 or (producer is not None and producer.op_type in QUANTIZERS):
        return False
    chain = _chain(model, pool)
    if not chain:
        return False
    first, quantizer = chain[0], chain[-1]
    result = quantizer.output[0]
    codes = f"{result}_unpooled"
    first.input[0] = pool.input[0]
    quantizer.output[0] = codes
    pool.input[0], pool.output[0] = codes, result
    model.graph.node.remove(pool)
    model.graph.node.insert(list(model.graph.node).index(quantizer) + 1, pool)
    changed = {part.output[0] for part in chain}
    for info in [info for info in model.graph.value_info if info.name in changed]:
        model.graph.value_info.remove(info)
    return True


def _chain(model: ModelWrapper, pool: NodeProto) -> list[NodeProto]:
    """The nodes from the pool up to its quantizer, the only reader of each; empty if none."""
    outputs = {port.name for port in model.graph.output}
    chain: list[NodeProto] = []
    name = pool.output[0]
    while name not in outputs:
        readers = model.find_consumers(name)
        if len(readers) != 1 or readers[0].input[0] != name:
            return []
        chain.append(readers[0])
        if readers[0].op_type in QUANTIZERS:
            return chain
        if readers[0].op_type not in INCREASING:
            return []
        name = readers[0].output[0]
    return []
