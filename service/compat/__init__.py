"""Routes that speak other projects' bodies; what they score goes through the same scoring as `/score_…`."""
