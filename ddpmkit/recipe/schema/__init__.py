"""The sections of a recipe and their keys, the JSON schema, and the description of every key."""
