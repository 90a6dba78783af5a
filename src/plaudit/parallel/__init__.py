"""How several processes train one model."""
