"""Any text reward model that transformers loads as a sequence classifier with one label."""
