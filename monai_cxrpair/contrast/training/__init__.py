"""How it is minimised: the loop, its arithmetic, its order, and what it tells."""
