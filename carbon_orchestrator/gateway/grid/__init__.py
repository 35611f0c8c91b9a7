"""What is asked of the grid: intensities, windows, starts on its curve."""
