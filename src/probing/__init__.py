"""Step 3: a linear head on a release, its utility on real test rows, and its results."""
