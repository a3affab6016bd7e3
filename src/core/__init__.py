"""What every room uses: errors, files, settings, devices, random numbers, progress."""
