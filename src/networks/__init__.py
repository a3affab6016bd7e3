"""Networks and how they are fitted: modules and objectives, one fit loop, checkpoints."""
