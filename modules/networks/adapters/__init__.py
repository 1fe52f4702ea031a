"""Ways to change a trained network by a few weights. One file each; `conf/adapter` chooses."""
