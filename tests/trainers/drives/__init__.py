"""Programs that run in a trainer's own environment, with a server at STEELYARD_URL; they know the client alone."""
