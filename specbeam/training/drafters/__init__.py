"""Building drafters that are added to a bundle when its target exists."""
