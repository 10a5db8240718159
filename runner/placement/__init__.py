"""Where a model goes: what it needs against what the devices have, and a plan that fits."""
