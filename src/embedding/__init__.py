"""Step 1: images through a frozen backbone."""
