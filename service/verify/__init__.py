"""`POST /verify`: rewards that need no model, evaluated in processes that may be killed."""
