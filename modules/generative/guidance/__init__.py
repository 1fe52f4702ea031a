"""Guidance (`guidance=`): from a conditional model to the field that a sampler follows. One file each."""
