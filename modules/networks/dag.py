"""A network whose layers are the edges of a directed acyclic graph."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from compendium.seeding import generator

NONE, SKIP, WEIGHTS = range(3)


class DAG(nn.Module):
    """ReLU layers between the nodes of a graph, initialised and given a learning rate as the graph asks for.

        z_0 = W_in x
        z_b = sum over edges a -> b of W_ab relu(z_a), or of z_a / sqrt(d_b) where the edge is a skip
        out = W_out relu(z_last)

    with d_b the number of edges that end in b. Entries of W_ab have the variance 2 / (d_b fan_in), so that every node
    has the variance of the first one; those of W_in 1 / fan_in, those of W_out 1 / fan_in^2, and biases are 0. Layers
    are linear, or convolutions of q x q pixels with an average over the pixels before W_out.

    `rate_scale`, by which every learning rate of the network is multiplied, is

        (sum over paths p from z_0 to z_last of L_p^3)^(-1/2) / q

    with L_p the number of ReLUs on a path, the last one before W_out among them. A chain of L ReLUs has L^(-3/2). A
    rate that was found on one graph is then one for any other.

    Chen, Wu, Wang and Hanin 2024, "Principled Architecture-aware Scaling of Hyperparameters", the initialisation and
    the rules for linear layers and for convolutions; codes of graphs as in the authors' code, with a hyphen for its
    underscore. Paths are never listed: the sum goes from node to node by the first four moments of their lengths.

    Deviations: (1) nodes hold values before the ReLU, as in the paper's analysis; in the authors' code after it, which
    moves d from the node where an edge begins; (2) skips are divided by sqrt(d_b), which keeps the variance; (3) the
    authors' code counts 3 layers besides a path's edges, here it is the 1 ReLU that there is; (4) W_out as in the
    mean-field parametrisation, where the authors' code has a standard deviation of 2 over the number of outputs.

    Args:
        in_shape: shape of one x.
        out_shape: shape of one output.
        graph: for the nodes 1, 2, ... the kinds of the edges from all nodes before, 0 none, 1 skip and 2 weights:
            "2-02-002" is a chain of three. None draws one.
        nodes: of a graph that is drawn, the first one among them.
        draw: which one is drawn.
        width: of a node: units, or channels.
        kernel: q of convolutions, odd; None: linear layers over flattened records.
        scale_rate: whether the network asks for its own learning rate.

    Raises:
        UserError: a code that is none, a node that is on no path, a kernel that is even or of records without pixels.
    """

    papers = ("chen2024principled",)
    kinds = ("image", "vector")

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        graph: str | None = "2-02-002",
        nodes: int = 4,
        draw: int = 0,
        width: int = 64,
        kernel: int | None = None,
        scale_rate: bool = True,
    ) -> None:
        super().__init__()
        if kernel is not None and (kernel % 2 != 1 or len(in_shape) != 3):
            raise UserError(f"net.kernel={kernel}: an odd number of pixels of pictures, or null.")
        self.edges = parsed(graph) if graph is not None else drawn(nodes, draw)
        self.out_shape, self.features, self.kernel = tuple(out_shape), width, kernel
        self.first = self.layer(in_shape[0] if kernel else math.prod(in_shape), 1.0)
        self.layers = nn.ModuleDict()
        for node, kinds in enumerate(self.edges, 1):
            degree = sum(kind != NONE for kind in kinds)
            for source, kind in enumerate(kinds):
                if kind == WEIGHTS:
                    self.layers[f"{source}_{node}"] = self.layer(width, 2 / degree)
        self.last = nn.Linear(width, math.prod(out_shape))
        nn.init.normal_(self.last.weight, std=1 / width)
        nn.init.zeros_(self.last.bias)
        self.rate_scale = cubes(self.edges) ** -0.5 / (kernel or 1) if scale_rate else 1.0

    def layer(self, size: int, gain: float) -> nn.Module:
        """A layer from `size` units or channels to `width`, of variance gain / fan_in."""
        q, width = self.kernel, self.features
        layer = nn.Conv2d(size, width, q, padding=q // 2) if q else nn.Linear(size, width)
        nn.init.normal_(layer.weight, std=math.sqrt(gain / (size * (q or 1) ** 2)))
        nn.init.zeros_(layer.bias)
        return layer

    def values(self, x: Tensor) -> list[Tensor]:
        """x (B, *in_shape) -> the nodes' values before the ReLU, (B, width) or (B, width, H, W) each."""
        found = [self.first(x if self.kernel else x.flatten(1))]
        active: list[Tensor] = []
        for node, kinds in enumerate(self.edges, 1):
            active.append(found[-1].relu())
            share = 1 / math.sqrt(sum(kind != NONE for kind in kinds))
            terms = [share * found[source] for source, kind in enumerate(kinds) if kind == SKIP]
            terms += [self.layers[f"{a}_{node}"](active[a]) for a, kind in enumerate(kinds) if kind == WEIGHTS]
            found.append(torch.stack(terms).sum(0) if len(terms) > 1 else terms[0])
        return found

    def embed(self, x: Tensor) -> Tensor:
        """x (B, *in_shape) -> features before the last layer (B, width)."""
        h = self.values(x)[-1].relu()
        return h.mean((2, 3)) if self.kernel else h

    def forward(self, x: Tensor) -> Tensor:
        """x (B, *in_shape) -> (B, *out_shape)."""
        return self.last(self.embed(x)).unflatten(1, self.out_shape)


def parsed(code: str) -> list[list[int]]:
    """A code -> for the nodes 1, 2, ... the kinds of the edges from the nodes before.

    Raises:
        UserError: it is no code, or a node is on no path.
    """
    rows = str(code).split("-")
    if any(len(row) != node or set(row) - set("012") for node, row in enumerate(rows, 1)):
        raise UserError(f"net.graph={code} is no graph.", "2-02-002 is a chain: row b has b digits of 0, 1 and 2")
    edges = [[int(kind) for kind in row] for row in rows]
    if lost := lost_nodes(edges):
        raise UserError(f"net.graph={code}: node {lost[0]} is on no path from the first node to the last.")
    return edges


def drawn(nodes: int, draw: int) -> list[list[int]]:
    """A random graph: every edge is one of the three kinds, and where a node is on no path, a layer takes it in.

    Raises:
        UserError: fewer than two nodes.
    """
    if nodes < 2:
        raise UserError(f"net.nodes={nodes}: a first and a last one.")
    kinds = torch.randint(3, (nodes, nodes), generator=generator(draw, "graph")).tolist()
    edges = [kinds[node][:node] for node in range(1, nodes)]
    for node in range(1, nodes):
        if not any(edges[node - 1]):
            edges[node - 1][node - 1] = WEIGHTS
        if node < nodes - 1 and not any(row[node] for row in edges[node:]):
            edges[-1][node] = WEIGHTS
    if not any(row[0] for row in edges):
        edges[0][0] = WEIGHTS
    return edges


def lost_nodes(edges: Sequence[Sequence[int]]) -> list[int]:
    """Nodes that cannot be reached from the first one, or from which the last one cannot be reached."""
    ahead, behind = {0}, {len(edges)}
    for node, kinds in enumerate(edges, 1):
        if any(kind and source in ahead for source, kind in enumerate(kinds)):
            ahead.add(node)
    for node in range(len(edges), 0, -1):
        if node in behind:
            behind |= {source for source, kind in enumerate(edges[node - 1]) if kind}
    return [node for node in range(len(edges) + 1) if node not in ahead & behind]


def cubes(edges: Sequence[Sequence[int]]) -> float:
    """Sum over paths of L^3, L the number of layers on a path, and one more.

    A node keeps sum_p L_p^k for k = 0, 1, 2, 3 over the paths that end in it; a layer on all of them makes it
    sum_p (L_p + 1)^k, by the binomial theorem.
    """
    moments = [[1.0] * 4]  # one path, of the one ReLU that is left for the output
    for kinds in edges:
        total = [0.0] * 4
        for before, kind in zip(moments, kinds, strict=True):
            longer = [sum(math.comb(k, j) * before[j] for j in range(k + 1)) for k in range(4)]
            chosen = {NONE: [0.0] * 4, SKIP: before, WEIGHTS: longer}[kind]
            total = [one + other for one, other in zip(total, chosen, strict=True)]
        moments.append(total)
    return moments[-1][3]
