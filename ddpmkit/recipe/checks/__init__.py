"""Checks of a recipe: values, contradictions between sections, requirements, and keys without effect."""
