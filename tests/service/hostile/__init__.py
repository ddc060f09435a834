"""What nobody should send: every answer comes soon, fits the schema, is never our bug, and harms no neighbour."""
