"""Node types as data: their descriptions, JSON Schemas, examples, and discovery of plugins."""
