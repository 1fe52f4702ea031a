"""Schedules of time steps (`timesteps=`): at which times a sampler stops on its way. One file each."""
