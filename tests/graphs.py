"""The graphs that TensorFlow runs: what its optimizer made of a step."""

import contextlib
import graphlib

from tensorflow.python.eager import context  # there is no public way to the optimized graph


@contextlib.contextmanager
def collected():
    """A list that holds, after the block, the graphs of all functions first called in it."""
    found = []
    context.context().enable_graph_collection()
    try:
        yield found
        metadata = context.context().export_run_metadata()
        found += [graphs.post_optimization_graph for graphs in metadata.function_graphs]
    finally:
        context.context().disable_graph_collection()


def unordered(graph):
    """Pairs of operations on one variable, at least one a write, that may run in either order."""
    back = {node.name for node in graph.node if node.op == "NextIteration"}  # of a loop
    inputs = {node.name: {*map(_origin, node.input)} - back for node in graph.node}
    ancestors, bit = {}, {}  # sets as the bits of a number: the graphs have thousands of nodes
    for name in graphlib.TopologicalSorter(inputs).static_order():
        bit[name] = 1 << len(bit)
        ancestors[name] = 0
        for parent in inputs.get(name, ()):
            ancestors[name] |= ancestors[parent] | bit[parent]
    reads, writes = {}, {}
    for node in graph.node:
        if node.op == "ReadVariableOp":
            reads.setdefault(node.input[0], []).append(node.name)
        elif node.op.startswith("Assign") and node.op.endswith("VariableOp"):
            writes.setdefault(node.input[0], []).append(node.name)
        elif node.op == "ResourceApplyAdam":
            for variable in node.input[:3]:  # the weights and both moments
                writes.setdefault(variable, []).append(node.name)
    return [
        (one, other)
        for variable, names in writes.items()
        for i, one in enumerate(names)
        for other in (*names[i + 1 :], *reads.get(variable, ()))
        if not (ancestors[one] & bit[other] or ancestors[other] & bit[one])
    ]


def _origin(name):
    return name.lstrip("^").split(":")[0]
