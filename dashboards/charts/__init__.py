"""What does the sweep look like? The only door to plotly: one chart each, one colour per cell."""
