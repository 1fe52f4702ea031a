"""Samplers (`sampler=`): from noise to data along the field of any Gaussian diffusion model. One file each."""
