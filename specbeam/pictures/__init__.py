"""Pictures of searches and of measurements: dataclasses and figures in, SVG or HTML out."""
