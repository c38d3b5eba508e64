"""Formula messages in the types of Qdrant Edge; only the terms that the adapter sends are implemented."""

from __future__ import annotations

import qdrant_edge as edge
from qdrant_client import grpc as wire

from tests.qdrant_stand_in.refusals import allow_fields, unimplemented


def expression(sent: wire.Expression) -> edge.Expression:
    match sent.WhichOneof("variant"):
        case "constant":
            return edge.Expression.Constant(sent.constant)
        case "variable":
            return edge.Expression.Variable(sent.variable)
        case "sum":
            return edge.Expression.Sum([expression(one) for one in sent.sum.sum])
        case "mult":
            return edge.Expression.Mult([expression(one) for one in sent.mult.mult])
        case "neg":
            return edge.Expression.Neg(expression(sent.neg))
        case "abs":
            return edge.Expression.Abs(expression(sent.abs))
        case "exp_decay":
            decay = sent.exp_decay
            allow_fields(decay, "x", "midpoint", "scale")
            inner = expression(decay.x)
            return edge.Expression.Decay(edge.DecayKind.Exp, inner, None, decay.midpoint, decay.scale)
        case other:  # max and min among them, which a server of 1.18 does not have
            raise unimplemented(f"the expression {other}")
