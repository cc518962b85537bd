"""The form of the panel: prompt, choices, sources and price."""
