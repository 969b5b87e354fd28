"""What every sampling run shares: how a patch joins it, its clock, its levels, its one batched call."""
