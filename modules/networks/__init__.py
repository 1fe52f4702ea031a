"""nn.Modules that many methods share.

Every network is built from `in_shape` and `out_shape` (both without the batch dimension) and its own arguments; what it
maps is the method's business. Networks that can be conditioned on a time t in [0, 1] take `time=True`, and then
`forward(x, t)` with t (B,). The class attribute `kinds` says which kinds of data a network can read.
"""
