"""Releases from a CVAE's latent space: centroids, straight lines, PLAN's walks."""
