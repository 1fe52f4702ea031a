"""Gaussian diffusion and interpolants as one thing: paths, the change of variables between what networks predict,
weightings of the loss, and the field that samplers see.
"""
