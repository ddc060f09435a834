"""Load and faults from the outside, through nothing but the wire."""
